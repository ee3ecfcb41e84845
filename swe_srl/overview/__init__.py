"""What `swe-srl inspect DATA` says of a corpus.

One pass over the trajectories, and a second over those whose issue others share. No text stays in memory: of a
step its lengths are kept, of an issue a hash, of a sample of steps the actions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from swe_srl.actions import canonical, is_target
from swe_srl.overview.distribution import Distribution, distribution, integers
from swe_srl.overview.duplicates import Issues, NearDuplicates, RepeatedIssues, near_duplicates
from swe_srl.overview.lengths import CHARACTERS, TOKENS, Lengths, Measure, characters
from swe_srl.overview.programs import programs
from swe_srl.overview.sample import CHOSEN_ON, SCORED, Floors, StepSample, score_floors
from swe_srl.progress import bar
from swe_srl.steps import StepFilter, kind
from swe_srl.tools import BASH
from swe_srl.types import Trajectory

SHOWN = 8  # ids of trajectories that an overview names
_KEEP = StepFilter()  # what training leaves out by default

Counts = dict[str, int]  # the most common first


@dataclass(frozen=True, slots=True)
class Expressible:
    """The share of actions that a policy with our tools could have written; None for no actions."""

    overall: float | None
    by_tool: dict[str, float]


@dataclass(frozen=True, slots=True)
class NoIssue:
    """Logs that hold no issue, and their steps: training has no prompt for them, so none is a target."""

    trajectories: int
    steps: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Each step is one of `kinds`' (a target), of `no_tool_of_ours`, or of `no_issue`; `programs` are bash steps'."""

    trajectories: int
    steps: int
    targets: int
    ids: list[str]
    formats: Counts
    outcomes: Counts
    repositories: Counts
    tools: Counts
    programs: Counts
    kinds: Counts
    no_tool_of_ours: Counts
    no_issue: NoIssue
    dropped: Counts
    share_expressible: Expressible
    steps_per_trajectory: Distribution
    lengths: dict[str, Distribution]
    repeated_issues: RepeatedIssues
    near_duplicates: NearDuplicates
    floors: Floors
    pictures: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def with_pictures(self, paths: Sequence[str]) -> Overview:
        return replace(self, pictures=list(paths))


def overview(trajectories: Sequence[Trajectory], tokens: Measure | None = None, seed: int = 0) -> Overview:
    """Look at all of it. `tokens` counts those of texts, as `lengths.tokens` of a tokenizer does."""
    counts = _Counts()
    steps_per_trajectory = integers()
    lengths = [Lengths(CHARACTERS, characters)]
    if tokens is not None:
        lengths.append(Lengths(TOKENS, tokens))
    issues = Issues()
    sample = StepSample(SCORED + CHOSEN_ON, seed)
    with bar("inspect", len(trajectories)) as tick:
        for position, trajectory in enumerate(trajectories):
            actions = [turn.action for turn in trajectory.acted if turn.action]
            fit = [is_target(action) for action in actions]
            texts = [canonical(action) for action in actions]
            usable = _KEEP.refuse(trajectory) is None
            counts.add(trajectory, fit, usable)
            steps_per_trajectory.append(len(actions))
            for one in lengths:
                one.add(trajectory, texts)
            issues.add(position, trajectory.issue)
            sample.add(trajectory, (k for k, is_fit in enumerate(fit, 1) if is_fit and usable))
            tick(position + 1, "")
    repeated = issues.repeated()
    with bar("near-duplicates", len(repeated)) as tick:
        duplicates = near_duplicates(trajectories, repeated, lambda done: tick(done, ""))
    return Overview(
        trajectories=len(trajectories),
        steps=counts.tools.total(),
        targets=counts.kinds.total(),
        ids=[trajectories[position].id for position in range(min(SHOWN, len(trajectories)))],
        formats=_sorted(counts.formats),
        outcomes=_sorted(counts.outcomes),
        repositories=_sorted(counts.repositories),
        tools=_sorted(counts.tools),
        programs=_sorted(counts.programs),
        kinds=_sorted(counts.kinds),
        no_tool_of_ours=_sorted(counts.foreign),
        no_issue=NoIssue(counts.unusable, counts.unusable_steps),
        dropped=_sorted(counts.dropped),
        share_expressible=counts.expressible(),
        steps_per_trajectory=distribution(steps_per_trajectory, "steps"),
        lengths={name: found for one in lengths for name, found in one.distributions().items()},
        repeated_issues=RepeatedIssues(len(repeated), sum(map(len, repeated))),
        near_duplicates=duplicates,
        floors=score_floors(sample, seed),
    )


@dataclass(slots=True)
class _Counts:
    formats: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    repositories: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    fit: Counter[str] = field(default_factory=Counter)  # what the policy could have written, by tool
    programs: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    unusable: int = 0
    unusable_steps: int = 0

    def add(self, trajectory: Trajectory, fit: Sequence[bool], usable: bool) -> None:
        """`fit`: for each step whether the policy could have written it; `usable`: whether any can be a target."""
        resolved = trajectory.outcome.resolved
        self.formats[trajectory.provenance.format] += 1
        self.outcomes["unknown" if resolved is None else "resolved" if resolved else "not resolved"] += 1
        self.repositories[trajectory.task.repository or "unknown"] += 1
        self.dropped.update(trajectory.dropped)
        if not usable:
            self.unusable += 1
            self.unusable_steps += len(fit)
        for turn, is_fit in zip(trajectory.acted, fit, strict=True):
            action = turn.action
            assert action is not None
            self.tools[action.tool] += 1
            self.fit[action.tool] += is_fit
            if usable:
                (self.kinds if is_fit else self.foreign)[kind(action)] += 1
            if action.tool == BASH.name:
                self.programs.update(programs(action.arguments.get("command", "")))

    def expressible(self) -> Expressible:
        by_tool = {tool: self.fit[tool] / n for tool, n in self.tools.most_common()}
        steps = self.tools.total()
        return Expressible(self.fit.total() / steps if steps else None, by_tool)


def _sorted(counts: Counter[str]) -> Counts:
    return dict(counts.most_common())
