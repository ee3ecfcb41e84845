"""Trajectories that tell the same twice: the same issue, and nearly the same actions.

Only trajectories of one issue are compared, so the work grows with the runs of an issue, not with the corpus.
Issues are the same if they differ in white space and case alone.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swe_srl.actions import canonical
from swe_srl.types import Trajectory

SIMILAR = 0.9  # rapidfuzz's Indel ratio of two trajectories' actions
COMPARED_CHARACTERS = 10_000  # of a trajectory's actions, from the first on: the ratio is quadratic
COMPARED_RUNS = 50  # of one issue; what comes after them is counted, not compared
SHOWN = 8  # groups that are named


@dataclass(frozen=True, slots=True)
class RepeatedIssues:
    """Issues that more than one trajectory is about, and how many trajectories are about them."""

    issues: int
    trajectories: int


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """`removable` trajectories would go if one of each group were kept; `examples` are ids, a group each."""

    groups: int
    removable: int
    not_compared: int
    examples: tuple[tuple[str, ...], ...]
    similar: float = SIMILAR
    compared_characters: int = COMPARED_CHARACTERS


class Issues:
    """Which trajectories are about the same issue: eight bytes for each issue, and no text."""

    def __init__(self) -> None:
        self._runs: defaultdict[bytes, list[int]] = defaultdict(list)

    def add(self, position: int, issue: str) -> None:
        text = " ".join(issue.split()).casefold()
        if text:  # logs that tell no issue are not about the same one
            self._runs[hashlib.sha256(text.encode()).digest()[:8]].append(position)

    def repeated(self) -> list[list[int]]:
        """Positions of the trajectories, for each issue that has several."""
        return [runs for runs in self._runs.values() if len(runs) > 1]


def near_duplicates(
    trajectories: Sequence[Trajectory], blocks: Sequence[Sequence[int]], tick: Callable[[int], None]
) -> NearDuplicates:
    """Groups within each block of positions: a trajectory joins the first one that is like it. One block is in memory.

    `tick` is told how many blocks are done.
    """
    groups = removable = not_compared = 0
    examples: list[tuple[str, ...]] = []
    for done, block in enumerate(blocks, 1):
        found = [group for group in _groups(trajectories, block[:COMPARED_RUNS]) if len(group) > 1]
        groups += len(found)
        removable += sum(len(group) - 1 for group in found)
        not_compared += len(block[COMPARED_RUNS:])
        examples += map(tuple, found[: SHOWN - len(examples)])
        tick(done)
    return NearDuplicates(groups, removable, not_compared, tuple(examples))


def _groups(trajectories: Sequence[Trajectory], block: Sequence[int]) -> list[list[str]]:
    """Ids by the first trajectory that each is like."""
    from rapidfuzz import fuzz, process

    firsts: list[str] = []
    groups: list[list[str]] = []
    for position in block:
        trajectory = trajectories[position]
        text = "\n".join(canonical(turn.action) for turn in trajectory.acted if turn.action)[:COMPARED_CHARACTERS]
        match = process.extractOne(text, firsts, scorer=fuzz.ratio, score_cutoff=100 * SIMILAR)
        if match is None:
            firsts.append(text)
            groups.append([trajectory.id])
        else:
            groups[match[2]].append(trajectory.id)
    return groups
