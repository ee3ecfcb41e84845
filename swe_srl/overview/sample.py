"""A fixed number of steps out of a stream, the same ones for the same seed, and what the floors get on them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from swe_srl.evaluate.floors import floors
from swe_srl.steps import StepSet
from swe_srl.types import Outcome, Step, Trajectory, Turn

SCORED = 500  # steps on which the floors are scored, at most
CHOSEN_ON = 250  # other steps, on which the best constant is chosen


@dataclass(frozen=True, slots=True)
class Floors:
    """Mean similarity of each floor on `n` steps. The best constant was chosen on `chosen_on` others."""

    n: int
    chosen_on: int
    similarity: dict[str, float]


class StepSample:
    """Each step that was seen is in the sample with the same probability (Vitter's algorithm R)."""

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._random = random.Random(seed)
        self._seen = 0
        self._steps: list[Step] = []

    def add(self, trajectory: Trajectory, ks: Iterable[int]) -> None:
        bare: Trajectory | None = None
        for k in ks:
            self._seen += 1
            place = len(self._steps) if self._seen <= self._size else self._random.randrange(self._seen)
            if place >= self._size:
                continue
            bare = bare or _bare(trajectory)
            self._steps[place : place + 1] = [Step(bare, k)]

    def parts(self, first: int, second: int) -> tuple[StepSet, StepSet]:
        """Two disjoint random parts of the sample, in these proportions."""
        steps = self._random.sample(self._steps, len(self._steps))
        cut = len(steps) * first // (first + second)
        return _step_set(steps[:cut]), _step_set(steps[cut:])


def score_floors(sample: StepSample, seed: int) -> Floors:
    """The floors' similarities; none of them where the sample is too small to be parted."""
    train, scored = sample.parts(CHOSEN_ON, SCORED)
    if not train or not scored:
        return Floors(0, 0, {})
    found = floors(train, scored, seed)
    means = {name: sum(one.score.value or 0.0 for one in answers) / len(answers) for name, answers in found.items()}
    return Floors(len(scored), len(train), means)


def _bare(trajectory: Trajectory) -> Trajectory:
    """The actions alone: floors look at nothing else, and a sample is kept in memory."""
    turns = tuple(Turn("", turn.action, None) for turn in trajectory.turns)
    return replace(trajectory, issue="", turns=turns, outcome=Outcome())


def _step_set(steps: Sequence[Step]) -> StepSet:
    return StepSet([step.trajectory for step in steps], [(i, step.k) for i, step in enumerate(steps)])
