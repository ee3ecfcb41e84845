"""Groups → a batch of weighted target tokens → the loss: GRPO as the paper states it (Eq. 1), and SFT's NLL.

Every target token carries its weight from the moment the batch is formed, and the loss is Σ weight · loss. So
micro-batches, packing, prefix sharing and ranks cannot change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from swe_srl.train.tree import Strand
from swe_srl.types import Group, Tokens


@dataclass(frozen=True, slots=True)
class Batch:
    """N target tokens, flat, in the order of groups, samples and tokens; and the strands that hold them.

    `advantage_N` is 1 for SFT. `sampler_N` are the sampler's log-probabilities (0 for an expert's tokens).
    """

    strands: tuple[tuple[Strand, ...], ...]  # by group
    ids_N: Tensor
    weight_N: Tensor
    advantage_N: Tensor
    sampler_N: Tensor


# ------------------------------------------------------------------------------------------ the groups


def rewards(group: Group) -> list[float]:
    """The rewards of the responses that have one: what could not be scored teaches nothing."""
    return [turns[0].score.value for turns in group.responses if turns[0].score.value is not None]


def reward_std(group: Group) -> float:
    """Population standard deviation in float64 (the paper divides by G, §4.2); 0 below two rewards."""
    values = rewards(group)
    return float(np.std(np.array(values, dtype=np.float64))) if len(values) > 1 else 0.0


def supervised(groups: Sequence[Group]) -> Batch:
    """SFT: each target token weighs 1 / (target tokens of the batch), or its share of the relative weights."""
    relative = [[sample.weights or (1.0,) * len(sample.tokens.ids) for sample in group.samples] for group in groups]
    total = sum(sum(weights) for row in relative for weights in row)
    return _batch(
        [
            [
                (sample.tokens, [weight / total for weight in weights], 1.0)
                for sample, weights in zip(group.samples, row, strict=True)
            ]
            for group, row in zip(groups, relative, strict=True)
        ]
    )


def reinforced(groups: Sequence[Group]) -> Batch:
    """GRPO: A = (r − mean)/std over the group; a token weighs 1 / (responses · tokens of its response).

    An episode is one response: its turns are learnt each in its own prompt, with the episode's advantage.
    """
    responses = sum(len(rewards(group)) for group in groups)
    rows = []
    for group in groups:
        values = rewards(group)
        mean, std = float(np.mean(np.array(values, dtype=np.float64))), reward_std(group)
        alike = len(set(values)) < 2  # without dynamic sampling; the std of equal values may be 1e-17
        row = []
        for turns in group.responses:
            value, n = turns[0].score.value, sum(len(turn.tokens.ids) for turn in turns)
            if value is not None:
                weight, advantage = 1 / (responses * max(n, 1)), 0.0 if alike else (value - mean) / std
                row += [(turn.tokens, [weight] * len(turn.tokens.ids), advantage) for turn in turns if turn.tokens.ids]
        rows.append(row)
    return _batch(rows)


def _batch(rows: Sequence[Sequence[tuple[Tokens, Sequence[float], float]]]) -> Batch:
    """Rows of (tokens, their weights, advantage), flat."""
    strands: list[tuple[Strand, ...]] = []
    ids: list[int] = []
    weight: list[float] = []
    advantage: list[float] = []
    sampler: list[float] = []
    for row in rows:
        group = []
        for tokens, weights, token_advantage in row:
            group.append(Strand(tokens.prompt_ids, tokens.ids, len(ids)))
            ids += tokens.ids
            weight += weights
            advantage += [token_advantage] * len(tokens.ids)
            sampler += tokens.logps or [0.0] * len(tokens.ids)
        strands.append(tuple(group))
    return Batch(
        tuple(strands), torch.tensor(ids), torch.tensor(weight), torch.tensor(advantage), torch.tensor(sampler)
    )


# -------------------------------------------------------------------------------------------- the loss


def nll(logp_N: Tensor) -> Tensor:
    """Loss of each target token, [N]."""
    return -logp_N


def clipped(logp_N: Tensor, old_N: Tensor, advantage_N: Tensor, epsilon: float) -> Tensor:
    """Loss of each target token, [N]: −min(ρA, clip(ρ, 1−ε, 1+ε)A), ρ = exp(logp − old) (Eq. 1).

    With one update a batch `old` is `logp` itself, detached: ρ = 1 and the clip cannot bind.
    """
    ratio_N = (logp_N - old_N).exp()
    return -torch.minimum(ratio_N * advantage_N, ratio_N.clamp(1 - epsilon, 1 + epsilon) * advantage_N)


def k3(logp_N: Tensor, reference_N: Tensor) -> Tensor:
    """KL to the reference, the k3 estimator: exp(Δ) − Δ − 1 with Δ = reference − logp; [N], never negative."""
    delta_N = reference_N - logp_N
    return delta_N.exp() - delta_N - 1


def sampler_weight(old_N: Tensor, sampler_N: Tensor, cap: float) -> Tensor:
    """Truncated importance weight of what was sampled under other log-probabilities: min(exp(old − sampler), cap)."""
    return (old_N - sampler_N).exp().clamp(max=cap).detach()
