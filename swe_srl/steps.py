"""Trajectory → Steps: which of an expert's actions become training instances, and in which split.

A step is (trajectory, k). Prompts are never written out: N steps of N growing prompts would be quadratic.
"""

from __future__ import annotations

import hashlib
import random
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import overload

from swe_srl.actions import is_target
from swe_srl.errors import DataError
from swe_srl.tools import BASH, EDITOR, TOOLS
from swe_srl.types import Action, Step, Trajectory

SPLITS = ("train", "validation", "test")
NEAR_DUPLICATE = 90.0  # rapidfuzz ratio of the issues' beginnings, 0…100
RAREST_WORDS = 12  # near-duplicates are sought among the issues that share one of these many


@dataclass(frozen=True, slots=True)
class StepFilter:
    """Which turns become targets. `tools` empty: all of ours. `include_last=False` is the paper's N − 1."""

    resolved_only: bool = False
    tools: tuple[str, ...] = ()
    include_last: bool = True

    def refuse(self, trajectory: Trajectory) -> str | None:
        """Why no step of this trajectory is used, or None."""
        if self.resolved_only and trajectory.outcome.resolved is not True:
            return "not resolved"
        if not trajectory.issue:
            return "the log does not hold the issue"
        return None

    def targets(self, trajectory: Trajectory, skipped: Counter[str]) -> list[int]:
        """The ks whose action can be a target; what is left out is counted by reason in `skipped`."""
        if reason := self.refuse(trajectory):
            skipped[reason] += len(trajectory.acted)
            return []
        ks: list[int] = []
        turns = trajectory.acted
        for k, turn in enumerate(turns, 1):
            action = turn.action
            assert action is not None
            if not is_target(action):
                reason = "not expressible in the policy's form" if action.tool in TOOLS else "no tool of ours"
                skipped[f"{reason}: {action.tool}"] += 1
            elif self.tools and action.tool not in self.tools:
                skipped["tool left out by data.tools"] += 1
            elif k == len(turns) and not self.include_last:
                skipped["last step left out by data.include_last"] += 1
            else:
                ks.append(k)
        return ks


class StepSet(Sequence[Step]):
    """Steps as references into the trajectories: two integers each, whatever the length of their prompts."""

    def __init__(self, trajectories: Sequence[Trajectory], references: Sequence[tuple[int, int]]) -> None:
        self.trajectories = trajectories
        self.references = references

    def __len__(self) -> int:
        return len(self.references)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> StepSet: ...
    def __getitem__(self, index: int | slice) -> Step | StepSet:
        if isinstance(index, slice):
            return StepSet(self.trajectories, self.references[index])
        position, k = self.references[index]
        return Step(self.trajectories[position], k)

    def choose(self, n: int | None, seed: int) -> StepSet:
        """At most `n` steps, the same ones for the same seed, in their own order; all of them for None."""
        if n is None or n >= len(self):
            return self
        chosen = sorted(random.Random(seed).sample(range(len(self)), n))
        return StepSet(self.trajectories, [self.references[i] for i in chosen])

    def choose_whole(self, n: int | None, seed: int) -> StepSet:
        """`choose`, but all steps of a trajectory or none: as many trajectories as fit, and one at least."""
        sizes = Counter(position for position, _ in self.references)
        order = random.Random(seed).sample(list(sizes), len(sizes))
        totals = accumulate(sizes[position] for position in order)
        chosen = {one for one, total in zip(order, totals, strict=True) if n is None or total <= n} or {*order[:1]}
        return StepSet(self.trajectories, [reference for reference in self.references if reference[0] in chosen])


def kind(action: Action) -> str:
    """What kind of step this is: a tool, and for bash the program, for the editor its command."""
    if action.tool == BASH.name:
        words = re.sub(r"^\s*cd\s+\S+\s*&&\s*", "", action.arguments.get("command", "")).split()
        return words[0].rsplit("/", 1)[-1] if words else "bash"
    if action.tool == EDITOR.name:
        return f"edit:{action.arguments.get('command', '')}"
    return action.tool


# ------------------------------------------------------------------------------------------ splitting


def split(
    trajectories: Sequence[Trajectory],
    *,
    validation: float | Sequence[str],
    test: float | Sequence[str],
    seed: int = 0,
) -> dict[str, list[int]]:
    """Positions of the trajectories by split; a repository is never in two.

    `validation` and `test` are repositories' names, or the share of trajectories to take (whole repositories,
    in an order that depends on the seed and the names alone). Logs without a repository stand for themselves
    with their near-duplicates (issues that begin alike); where that leaves fewer than three groups for shares,
    single trajectories are split, with a warning. Raises DataError for a name that no trajectory has.
    """
    groups = _groups(trajectories)
    by_share = isinstance(validation, int | float) and isinstance(test, int | float)
    if by_share and len(groups) > 1 and len(set(groups)) < 3:
        warnings.warn(
            f"the {len(groups)} trajectories come from {len(set(groups))} repositories or issues: split by "
            "trajectory, so training and held-out steps may share code",
            stacklevel=2,
        )
        groups = [trajectory.id for trajectory in trajectories]
    order = sorted(set(groups), key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
    sizes = Counter(groups)
    place = dict.fromkeys(order, "train")
    asked = [("test", test), ("validation", validation)]
    asked.sort(key=lambda one: isinstance(one[1], int | float))  # a share is taken of what no name claims
    for name, wanted in asked:
        if isinstance(wanted, int | float):
            taken = 0
            for group in order:
                # the first, and then each that comes nearer to the share than stopping before it
                near = wanted > 0 and (taken == 0 or taken + sizes[group] / 2 < wanted * len(groups))
                if place[group] == "train" and near and list(place.values()).count("train") > 1:
                    place[group], taken = name, taken + sizes[group]
        else:
            if missing := set(wanted) - set(order):
                raise DataError(
                    f"{name} repositories {', '.join(sorted(missing))}: no trajectory is of them; "
                    f"there are {', '.join(sorted(place)[:20])}"
                )
            if twice := [group for group in wanted if place[group] != "train"]:
                raise DataError(f"{', '.join(twice)}: named in data.validation and in data.test; leave one out")
            place.update(dict.fromkeys(wanted, name))
    found: dict[str, list[int]] = {name: [] for name in SPLITS}
    for position, group in enumerate(groups):
        found[place[group]].append(position)
    return found


def _groups(trajectories: Sequence[Trajectory]) -> list[str]:
    """For each trajectory, the name of the group that must stay together."""
    names: list[str | None] = []
    issues: dict[int, str] = {}
    for position, trajectory in enumerate(trajectories):
        names.append(trajectory.task.repository)
        if names[-1] is None:
            issues[position] = " ".join(trajectory.issue[:2000].split())[:500]
    for position, leader in _near_duplicates(issues).items():
        names[position] = f"issue like that of {trajectories[leader].id}"
    return [name or "" for name in names]


def _near_duplicates(texts: dict[int, str]) -> dict[int, int]:
    """For each key the first key whose text is nearly its own.

    Texts that are nearly the same share nearly all their words, and so one of their rarest: only those that do
    are compared. Words of one text alone are shared with none, and are left out. On 428 real issues, copies of 300
    with one character in 25 spoilt, and 4,272 made ones, the groups are those of comparing all with all.
    """
    from rapidfuzz import fuzz, process

    words = {text: set(re.findall(r"\w+", text.casefold())) for text in texts.values()}
    spread = Counter(word for found in words.values() for word in found)
    leader: dict[int, int] = {}
    leaders: dict[str, int] = {}
    holders: dict[str, list[str]] = defaultdict(list)  # earlier texts by each of their rarest words
    for key, text in texts.items():
        if text not in leaders:
            shared = (word for word in words[text] if spread[word] > 1)
            rarest = sorted(shared, key=lambda word: (spread[word], word))[:RAREST_WORDS]
            near = dict.fromkeys(other for word in rarest for other in holders[word])
            match = process.extractOne(text, near.keys(), scorer=fuzz.ratio, score_cutoff=NEAR_DUPLICATE)
            leaders[text] = leaders[match[0]] if match else key
            for word in rarest:
                holders[word].append(text)
        leader[key] = leaders[text]
    return leader


def step_set(
    trajectories: Sequence[Trajectory], positions: Iterable[int], keep: StepFilter, skipped: Counter[str]
) -> StepSet:
    """The steps of the trajectories at `positions` that pass the filter, in order."""
    return StepSet(trajectories, [(i, k) for i in positions for k in keep.targets(trajectories[i], skipped)])
