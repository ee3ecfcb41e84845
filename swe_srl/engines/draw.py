"""How a next token is drawn: from the request's seed and its place alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(seed: int, n: int) -> Any:
    """n draws in [0, 1) that depend on the seed alone; float64, so that no token's share is rounded away."""
    return np.random.Generator(np.random.Philox(seed)).random(n)


_HELD = 2**24  # logits that a draw works on at a time: 64 MB in float32, of which it makes a few copies


def sample(logits_V: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Next ids by inverse CDF (greedy at T = 0), and their log-probabilities under logits / T, in float32.

    Any number of axes before the vocabulary's: those of `uniform`.
    """
    rows = max(1, _HELD // logits_V.shape[-1])
    parts = zip(logits_V.flatten(0, -2).split(rows), uniform.flatten().split(rows), strict=True)
    chosen, logps = zip(*(_sample(logits_nV, uniform_n, temperature) for logits_nV, uniform_n in parts), strict=True)
    return torch.cat(chosen).view_as(uniform), torch.cat(logps).view_as(uniform)


def _sample(logits_V: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    scaled_V = logits_V.float() if temperature in (0, 1) else logits_V.float() / temperature
    logp_V = scaled_V.log_softmax(-1)
    chosen = logp_V.argmax(-1) if temperature == 0 else _drawn(logp_V.exp(), uniform)
    return chosen, logp_V.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def _drawn(share_V: Tensor, uniform: Tensor) -> Tensor:
    """Where the running sum of shares first passes `uniform` of the whole.

    First which block, then where in it: no sum in float64 runs over a whole vocabulary.
    """
    V = share_V.shape[-1]
    size = math.isqrt(V - 1) + 1
    blocks_BS = F.pad(share_V, (0, -V % size)).unflatten(-1, (-1, size))
    running_B = blocks_BS.sum(-1).double().cumsum(-1)
    draw_1 = uniform.unsqueeze(-1) * running_B[..., -1:]
    block_1 = _first_above(running_B, draw_1)
    before_1 = F.pad(running_B, (1, 0)).gather(-1, block_1)
    inside_S = blocks_BS.take_along_dim(block_1.unsqueeze(-1), -2).squeeze(-2).double().cumsum(-1)
    below_1 = torch.nextafter(inside_S[..., -1:], torch.zeros_like(draw_1))  # a block's sum is rounded otherwise
    place_1 = _first_above(inside_S, (draw_1 - before_1).clamp(min=0).minimum(below_1))
    return (block_1 * size + place_1).squeeze(-1).clamp(max=V - 1)


def _first_above(running: Tensor, draw_1: Tensor) -> Tensor:
    """The first place whose sum is above the draw; the last where rounding leaves none."""
    return torch.searchsorted(running, draw_1, right=True).clamp(max=running.shape[-1] - 1)
