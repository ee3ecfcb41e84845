"""Groups of SRL with one reward for a whole trajectory (`reward_per = "trajectory"`): an ablation (paper, Table 3).

A draw is a trajectory. Its group is G passes over it: in each, every step is answered once, after the expert's history
as always, and the pass has one reward, the mean of its answers'. A pass is one response (`Group.responses`), as an
attempt is in RLVR: all its answers have its advantage, so nothing says which of them was good. The paper's holistic
reward compares a whole solution that is written at once; a trajectory cannot be, since its commands have outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from statistics import fmean

from swe_srl.errors import TrainingError
from swe_srl.policies import seed_of
from swe_srl.policies.engine import EnginePolicy
from swe_srl.rewards import Attempt, Scorer
from swe_srl.steps import StepSet
from swe_srl.train.distributed import ALONE, World
from swe_srl.train.sources import Cursor, Order, in_rounds, teaches
from swe_srl.train_config import SrlStage
from swe_srl.types import Group, Sample, Score, Step


@dataclass(slots=True)
class WholeSource:
    """Groups of G passes over an expert's trajectory, each with the mean similarity of its answers."""

    steps: StepSet
    policy: EnginePolicy
    scorer: Scorer
    stage: SrlStage
    seed: int
    world: World = ALONE
    paths: list[list[Step]] = field(init=False)
    order: Order = field(init=False)

    def __post_init__(self) -> None:
        self.paths = [list(path) for _, path in groupby(self.steps, key=lambda step: step.trajectory.id)]
        self.order = Order(len(self.paths), seed_of(self.seed, self.stage.name))

    def is_live(self, group: Group) -> bool:
        return teaches(group, self.stage)

    def groups(self, update: int, cursor: Cursor) -> Iterator[Group]:
        return in_rounds(self.stage, cursor, lambda draws: self.world.shared(draws, partial(self._groups, update)))

    def _groups(self, update: int, draws: Sequence[int]) -> Iterator[Group]:
        return (self._group(update, draw) for draw in draws)

    def _group(self, update: int, draw: int) -> Group:
        path, passes = self.paths[self.order[draw]], range(self.stage.group_size)
        asked = [(sample, step) for step in path for sample in passes]  # the answers to a step share its prompt
        seeds = [seed_of(self.seed, self.stage.name, update, draw, step.k, sample) for sample, step in asked]
        completions = self.policy.answer([self.policy.prompt(step) for _, step in asked], seeds, self.stage.temperature)
        attempts = [
            Attempt(completion.text, completion.truncated, step.action)
            for (_, step), completion in zip(asked, completions, strict=True)
        ]
        try:
            scores = self.scorer.start(attempts).result()
        except BrokenExecutor as error:
            raise TrainingError(f"a process that scores answers died (out of memory?): {error}") from error
        rewards = [_mean([score for (n, _), score in zip(asked, scores, strict=True) if n == one]) for one in passes]
        samples = [
            Sample(completion.tokens, replace(score, value=rewards[n]), completion.text, episode=n)
            for (n, _), completion, score in zip(asked, completions, scores, strict=True)
            if completion.tokens is not None  # an engine's always has them
        ]
        return Group(path[0].trajectory.id, draw, tuple(samples))


def _mean(scores: list[Score]) -> float | None:
    """None where an answer could not be scored: the mean of the others is of another trajectory."""
    values = [score.value for score in scores if score.value is not None]
    return fmean(values) if len(values) == len(scores) else None
