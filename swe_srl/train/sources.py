"""Where groups come from: an expert's own answers (SFT), or a policy's, scored against the expert's (SRL).

A source yields groups in draw order. Draw d of a stage is step `order[d]`: each epoch is a permutation that
depends on the seed and the stage alone, so the cursor (draws used so far) is all there is to remember.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from swe_srl.errors import TrainingError
from swe_srl.policies import seed_of
from swe_srl.policies.engine import EnginePolicy
from swe_srl.render import Renderer
from swe_srl.rewards import Attempt, Scorer
from swe_srl.train.distributed import ALONE, World
from swe_srl.train.objective import reward_std, rewards
from swe_srl.train_config import RlStage, SftStage, SrlStage
from swe_srl.types import Completion, Group, Sample, Score, Step, Tokens

WAVE = 64  # prompts generated before their scoring starts beside the next ones


@dataclass(slots=True)
class Cursor:
    """A source's place. `live_share` is the share of live groups in the last batch: how many to draw at first."""

    draw: int = 0
    live_share: float = 1.0


class Source(Protocol):
    def groups(self, update: int, cursor: Cursor) -> Iterator[Group]:
        """Groups in draw order from the cursor on, for the `update`-th update; at most the stage's bound."""

    def is_live(self, group: Group) -> bool:
        """Whether the group teaches anything."""


@dataclass(slots=True)
class Order:
    """Draw → position: one permutation an epoch."""

    n: int
    seed: int

    def __getitem__(self, draw: int) -> int:
        epoch, place = divmod(draw, self.n)
        return int(_permutation(self.n, seed_of(self.seed, "epoch", epoch))[place])


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(n)


@dataclass(slots=True)
class SftSource:
    """Groups of one sample, the expert's own turn; all of them are live."""

    steps: Sequence[Step]
    renderer: Renderer
    stage: SftStage
    seed: int
    order: Order = field(init=False)

    def __post_init__(self) -> None:
        self.order = Order(len(self.steps), seed_of(self.seed, self.stage.name))

    def groups(self, update: int, cursor: Cursor) -> Iterator[Group]:
        for draw in range(cursor.draw, cursor.draw + self.stage.batch):
            step = self.steps[self.order[draw]]
            sample = expert_sample(self.renderer, step)
            if self.stage.prompt_weight:
                sample = with_prompt(sample, self.renderer, step, self.stage.prompt_weight)
            yield Group(step.id, draw, (sample,))

    def is_live(self, group: Group) -> bool:
        return True


def teaches(group: Group, stage: RlStage) -> bool:
    """Whether a group's rewards differ; without dynamic sampling, whether there are two to be compared."""
    return reward_std(group) > stage.min_group_std if stage.dynamic_sampling else len(rewards(group)) > 1


def in_rounds(stage: RlStage, cursor: Cursor, drawn: Callable[[range], Iterable[Group]]) -> Iterator[Group]:
    """Rounds of as many draws as the batch still seems to need, up to `max_draws` · batch: `drawn(draws)`."""
    bound = stage.max_draws * stage.batch
    n = live = 0
    while n < bound and live < stage.batch:
        share = live / n if live else cursor.live_share
        need = math.ceil((stage.batch - live) / max(share, 1 / stage.max_draws))
        size = min(need, bound - n)
        for group in drawn(range(cursor.draw + n, cursor.draw + n + size)):
            live += teaches(group, stage)
            yield group
        n += size


def expert_sample(renderer: Renderer, step: Step) -> Sample:
    """The expert's turn in the policy's form: what SFT learns, and what a validation loss is of."""
    tokens = Tokens(
        renderer.prompt_ids(step.trajectory.issue, step.history),
        renderer.target_ids(step.expert.thought, step.action),
        (),
    )
    return Sample(tokens, Score(None))


def with_prompt(sample: Sample, renderer: Renderer, step: Step, weight: float) -> Sample:
    """The sample with its prompt as a target too: what others wrote in it, each token at `weight`.

    Calls in the history are left out: they have no think block, and a policy that learns them forgets its own.
    """
    prompt, ids = sample.tokens.prompt_ids, sample.tokens.ids
    heard = renderer.heard(step.trajectory.issue, step.history)[1:]
    weights = (*(weight * one for one in heard), *(1.0,) * len(ids))
    return replace(sample, tokens=Tokens(prompt[:1], prompt[1:] + ids, ()), weights=weights)


@dataclass(slots=True)
class SrlSource:
    """Groups of G answers to an expert's step, each with its similarity to the expert's action (§4.2)."""

    steps: Sequence[Step]
    policy: EnginePolicy
    scorer: Scorer
    stage: SrlStage
    seed: int
    world: World = ALONE
    order: Order = field(init=False)

    def __post_init__(self) -> None:
        self.order = Order(len(self.steps), seed_of(self.seed, self.stage.name))

    def step(self, draw: int) -> Step:
        """What the draw-th prompt of the stage asks."""
        return self.steps[self.order[draw]]

    def is_live(self, group: Group) -> bool:
        return teaches(group, self.stage)

    def groups(self, update: int, cursor: Cursor) -> Iterator[Group]:
        return in_rounds(self.stage, cursor, lambda draws: self.world.shared(draws, partial(self._round, update)))

    def _round(self, update: int, draws: Sequence[int]) -> Iterator[Group]:
        """Answers are scored while the next wave is generated."""
        waves = [self._wave(update, draws[start : start + WAVE]) for start in range(0, len(draws), WAVE)]
        for wave in waves:
            try:
                scores = wave.scores.result()
            except BrokenExecutor as error:
                raise TrainingError(f"a process that scores answers died (out of memory?): {error}") from error
            samples = [
                Sample(completion.tokens, score, completion.text)
                for completion, score in zip(wave.completions, scores, strict=True)
                if completion.tokens is not None  # an engine's always has them
            ]
            G = self.stage.group_size
            for i, (draw, step) in enumerate(zip(wave.draws, wave.steps, strict=True)):
                yield Group(step.id, draw, tuple(samples[i * G : (i + 1) * G]))

    def _wave(self, update: int, draws: Sequence[int]) -> _Wave:
        G, name = self.stage.group_size, self.stage.name
        steps = [self.step(draw) for draw in draws]
        prompts = [prompt for step in steps for prompt in [self.policy.prompt(step)] * G]
        seeds = [seed_of(self.seed, name, update, draw, sample) for draw in draws for sample in range(G)]
        completions = self.policy.answer(prompts, seeds, self.stage.temperature)
        attempts = [
            Attempt(completion.text, completion.truncated, steps[i // G].action)
            for i, completion in enumerate(completions)
        ]
        return _Wave(draws, steps, completions, self.scorer.start(attempts))


@dataclass(frozen=True, slots=True)
class _Wave:
    """Draws that were generated together; their scores may still be on the way."""

    draws: Sequence[int]
    steps: list[Step]
    completions: list[Completion]
    scores: Future[list[Score]]
