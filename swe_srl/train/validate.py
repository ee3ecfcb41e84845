"""How good the policy is on held-out steps: the loss of the experts' turns, and its own greedy answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from swe_srl.config import History
from swe_srl.evaluate.metrics import Answer, Mode, answer, summarise
from swe_srl.policies import seed_of
from swe_srl.policies.engine import EnginePolicy
from swe_srl.progress import bar
from swe_srl.rewards import Attempt, Scorer
from swe_srl.train.distributed import ALONE, World
from swe_srl.train.model import log_probs
from swe_srl.train.objective import nll, supervised
from swe_srl.train.own import Asked, Walk, Walking, walked
from swe_srl.train.passes import in_step, share_of
from swe_srl.train.pieces import pack
from swe_srl.train.sources import expert_sample
from swe_srl.train.take import refuse_unscored
from swe_srl.train_config import MAX_UNSCORED
from swe_srl.types import Group, Step, Went

CHUNK = 64  # steps that are answered between two ticks of the bar


@dataclass(frozen=True, slots=True)
class Validator:
    """Validates on the same steps every time."""

    steps: Sequence[Step]
    policy: EnginePolicy
    scorer: Scorer
    token_budget: int
    prefix_sharing: bool
    dtype: torch.dtype
    seed: int
    history: History = "expert"
    walking: Walking | None = None
    max_unscored: float = MAX_UNSCORED
    world: World = ALONE

    def __call__(self, model: Any) -> dict[str, Any]:
        """Greedy similarity with its interval, and the loss; the engine must hold the model's weights.

        On the policy's own history the same numbers have names that begin with own_.
        """
        found: dict[str, Any] = {"loss": self.loss(model)}
        if self.history != "own":
            found |= _numbers(list(self.world.shared(self.steps, self._greedy)), self.seed)
        if self.walking is not None:
            own, went = self._own()
            refuse_unscored(went["lost"], went.total(), self.max_unscored, "answers on the policy's own history")
            found |= {f"own_{name}": value for name, value in _numbers(own, self.seed).items()}
            found["own_put_back"] = went["put back"] / max(went.total() - went["lost"], 1)
            found["own_lost"] = went["lost"]
        return found

    def _greedy(self, steps: Sequence[Step]) -> list[Answer]:
        found: list[Answer] = []
        with bar("validation: answers", len(steps)) as tick:
            for first in range(0, len(steps), CHUNK):
                found += answers(self.policy, self.scorer, steps[first : first + CHUNK], "greedy", 1, self.seed)
                tick(len(found), "")
        return found

    def _own(self) -> tuple[list[Answer], Counter[Went]]:
        """Ranks share the trajectories: a walk is whole."""
        assert self.walking is not None
        paths = [list(path) for _, path in groupby(self.steps, key=lambda step: step.trajectory.id)]
        walking = self.walking

        def walked(part: Sequence[list[Step]]) -> list[tuple[list[Answer], Counter[Went]]]:
            steps = [step for path in part for step in path]
            return [own_answers(self.policy, self.scorer, steps, walking, self.seed)]

        found = list(self.world.shared(paths, walked))
        return [one for own, _ in found for one in own], sum((went for _, went in found), Counter())

    @torch.no_grad()
    def loss(self, model: Any) -> float:
        """Mean negative log-probability, in nats, of the experts' tokens."""
        groups = [Group(step.id, i, (expert_sample(self.policy.renderer, step),)) for i, step in enumerate(self.steps)]
        batch = supervised(groups)
        total = 0.0
        pieces = pack(share_of(batch.strands, self.world), self.token_budget, share=self.prefix_sharing)
        with bar("validation: loss", len(pieces)) as tick:
            for n, piece in enumerate(in_step(model, pieces), 1):
                logp_N, _ = log_probs(model, piece, batch.ids_N[piece.slot_N], 1.0, self.dtype)
                total += float((batch.weight_N[piece.slot_N] * nll(logp_N.cpu())).sum())
                tick(min(n, len(pieces)), "")
        return sum(self.world.gather(total))


def _numbers(found: Sequence[Answer], seed: int) -> dict[str, Any]:
    summary = summarise(found, seed)
    similarity = summary["similarity"]
    assert similarity is not None
    return {
        "similarity": similarity.value,
        "interval": [similarity.low, similarity.high],
        "format_error": sum(summary.format_errors.values()),
        "n": summary.n_steps,
    }


def own_answers(
    policy: EnginePolicy, scorer: Scorer, steps: Sequence[Step], walking: Walking, seed: int
) -> tuple[list[Answer], Counter[Went]]:
    """A greedy answer to each step of whole trajectories, after what the policy has really done, in the steps' order.

    A step that the policy had done already has the answer that did it. Beside them, how often the walks went on how.
    """
    paths = [list(path) for _, path in groupby(steps, key=lambda step: step.trajectory.id)]
    walks = [Walk(path[0].trajectory, {step.k: (seed_of(seed, "own", step.id, 0),) for step in path}) for path in paths]
    asked = list[Asked]()
    with bar("own history: answers", len(steps)) as tick:
        for of_walk in walked(walks, policy, scorer, 0.0, walking):
            asked += of_walk
            tick(len(asked), "")
    found = [answer(one.step, "own", one.completions[0].text, one.scores[0]) for one in asked]
    return found, Counter(one.went for one in asked)


def answers(
    policy: EnginePolicy, scorer: Scorer, steps: Sequence[Step], mode: Mode, samples: int, seed: int
) -> list[Answer]:
    """`samples` scored answers a step, greedily or at T = 1."""
    wanted = [step for step in steps for _ in range(samples)]
    prompts = [prompt for step in steps for prompt in [policy.prompt(step)] * samples]
    seeds = [seed_of(seed, mode, step.id, i % samples) for i, step in enumerate(wanted)]
    completions = policy.answer(prompts, seeds, 0.0 if mode == "greedy" else 1.0)
    attempts = [
        Attempt(completion.text, completion.truncated, step.action)
        for completion, step in zip(completions, wanted, strict=True)
    ]
    scores = scorer.start(attempts).result()
    return [
        answer(step, mode, completion.text, score)
        for step, completion, score in zip(wanted, completions, scores, strict=True)
    ]
