"""Groups of semi-online SRL (`history = "own"`): the policy walks the experts' trajectories by its own commands.

A draw is still one expert step, but they come trajectory by trajectory: an epoch is a permutation of the
trajectories, each with its steps in order. So the cursor is all there is to remember here, too. Where a batch ended
within a trajectory, the next one walks it from its beginning again, with the new weights and one answer a step, to
where its own draws begin. A step that the policy had done already ("done") has no group; its draw is used up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from swe_srl.errors import TrainingError
from swe_srl.policies import seed_of
from swe_srl.policies.engine import EnginePolicy
from swe_srl.rewards import Scorer
from swe_srl.steps import StepSet
from swe_srl.train.distributed import ALONE, World
from swe_srl.train.own import Asked, Walk, Walking, walked
from swe_srl.train.sources import Cursor, Order, in_rounds, teaches
from swe_srl.train_config import SrlStage
from swe_srl.types import Group, Sample, Step


class PathOrder:
    """Draw → position of a step: the trajectories in an order that each epoch shuffles, their steps in theirs."""

    def __init__(self, steps: StepSet, seed: int) -> None:
        places = range(len(steps))
        paths = [tuple(path) for _, path in groupby(places, key=lambda place: steps.references[place][0])]
        self._order, self._n = Order(len(paths), seed), len(steps)
        self._epoch = lru_cache(maxsize=4)(lambda epoch: self._flat(paths, epoch))

    def _flat(self, paths: Sequence[tuple[int, ...]], epoch: int) -> NDArray[np.int64]:
        n = len(paths)
        return np.concatenate([paths[self._order[draw]] for draw in range(epoch * n, (epoch + 1) * n)])

    def __getitem__(self, draw: int) -> int:
        epoch, place = divmod(draw, self._n)
        return int(self._epoch(epoch)[place])


@dataclass(slots=True)
class OwnSource:
    """Groups of G answers to an expert's step, each asked after what the policy has really done."""

    steps: StepSet
    policy: EnginePolicy
    scorer: Scorer
    stage: SrlStage
    seed: int
    walking: Walking
    world: World = ALONE
    order: PathOrder = field(init=False)

    def __post_init__(self) -> None:
        self.order = PathOrder(self.steps, seed_of(self.seed, self.stage.name))

    def step(self, draw: int) -> Step:
        """What the draw-th prompt of the stage asks."""
        return self.steps[self.order[draw]]

    def is_live(self, group: Group) -> bool:
        return teaches(group, self.stage)

    def groups(self, update: int, cursor: Cursor) -> Iterator[Group]:
        def drawn(draws: range) -> Iterator[Group]:
            paths = self._paths(draws.start, len(draws))
            return self.world.shared(paths, partial(self._round, update, draws.start))

        return in_rounds(self.stage, cursor, drawn)

    def _round(self, update: int, first: int, paths: Sequence[range]) -> Iterator[Group]:
        """The draws of whole walks, in draw order, less those that an earlier batch has used."""
        walks = [self._walk(update, path, first) for path in paths]
        try:
            for path, found in zip(
                paths, walked(walks, self.policy, self.scorer, self.stage.temperature, self.walking), strict=True
            ):
                for draw, asked in zip(path, found, strict=True):
                    if draw >= first and asked.went != "done":
                        yield _group(draw, asked)
        except BrokenExecutor as error:
            raise TrainingError(f"a process that scores answers died (out of memory?): {error}") from error

    def _paths(self, first: int, size: int) -> list[range]:
        """The draws from `first` on, a range a trajectory; the first one from its trajectory's beginning."""
        while first and size and self._goes_on(first - 1, first):
            first, size = first - 1, size + 1
        begins = [draw for draw in range(first, first + size) if draw == first or not self._goes_on(draw - 1, draw)]
        return [range(begin, end) for begin, end in pairwise([*begins, first + size])]

    def _goes_on(self, draw: int, after: int) -> bool:
        """Whether two draws in a row are of one walk; the next epoch may begin with the trajectory that ended this."""
        before, step = self.step(draw), self.step(after)
        return before.trajectory.id == step.trajectory.id and before.k < step.k

    def _walk(self, update: int, path: range, first: int) -> Walk:
        def seeds(draw: int) -> tuple[int, ...]:
            answers = self.stage.group_size if draw >= first else 1
            return tuple(seed_of(self.seed, self.stage.name, update, draw, sample) for sample in range(answers))

        return Walk(self.step(path[0]).trajectory, {self.step(draw).k: seeds(draw) for draw in path})


def _group(draw: int, asked: Asked) -> Group:
    samples = [
        Sample(completion.tokens, score, completion.text)
        for completion, score in zip(asked.completions, asked.scores, strict=True)
        if completion.tokens is not None  # an engine's always has them
    ]
    return Group(asked.step.id, draw, tuple(samples), asked.went)
