"""Attention over a trie: each token looks at those above it, and at nothing else.

Three ways compute the same: `blocks` only what is looked at, by flash attention on slices whose results are merged by
their log-sum-exps (CPU); `flex` by a block mask, compiled (CUDA); `dense` by a boolean mask, the oracle of the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from swe_srl.range_attention import Shown, attended, flash_backward, in_window, slices
from swe_srl.train.pieces import Limb


class Looking:
    """One forward pass over a limb. `own` are a trunk's keys and values, as each layer computes them.

    No dataclass: FSDP would copy one on its way into a layer, and what the layer leaves here would be lost.
    """

    __slots__ = ("limb", "own", "plans", "way")

    def __init__(self, limb: Limb, way: Callable[..., Tensor]) -> None:
        self.limb, self.way = limb, way
        self.own: dict[int, tuple[Tensor, Tensor]] = {}
        self.plans: dict[int | None, Any] = {}  # by window: what a way needs of the limb

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        if self.limb.is_trunk:
            self.own[layer] = (key, value)
        return self.way(query, key, value, self, self.above(layer), scale, window)

    def above(self, layer: int) -> list[Tensor]:
        """k, v, k, v, … of the limbs above."""
        found: list[Tensor] = []
        for limb in self.limb.above:
            assert limb.keys is not None
            found += limb.keys[layer]
        return found


def way_of(device: torch.device) -> Callable[..., Tensor]:
    return flex if device.type == "cuda" else blocks


# ------------------------------------------------------------------------------------------------ by masks


def sees(limb: Limb, window: int | None, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """(query, key) → whether it looks there; keys are numbered through the limbs above, then the limb's own."""
    every = (*limb.above, limb)
    place_K = torch.cat([one.place_T for one in every]).to(device)
    end_K = torch.cat([one.end_T for one in every]).to(device)
    depth_K = torch.cat([one.depth_T for one in every]).to(device)
    own = len(place_K) - len(limb.place_T)

    def seen(q: Tensor, k: Tensor) -> Tensor:
        place = place_K[own + q]
        above = (place_K[k] <= place) & (place < end_K[k])
        return above if window is None else above & (depth_K[own + q] - depth_K[k] < window)

    return seen


def dense(
    query: Tensor, key: Tensor, value: Tensor, tree: Looking, above: list[Tensor], scale: float, window: int | None
) -> Tensor:
    key, value = torch.cat([*above[::2], key], 2), torch.cat([*above[1::2], value], 2)
    if window not in tree.plans:
        q, k = (torch.arange(n, device=query.device) for n in (query.shape[2], key.shape[2]))
        tree.plans[window] = sees(tree.limb, window, query.device)(q[:, None], k[None, :])
    return F.scaled_dot_product_attention(query, key, value, attn_mask=tree.plans[window], scale=scale, enable_gqa=True)


def flex(
    query: Tensor, key: Tensor, value: Tensor, tree: Looking, above: list[Tensor], scale: float, window: int | None
) -> Tensor:
    from torch.nn.attention.flex_attention import create_block_mask

    key, value = torch.cat([*above[::2], key], 2), torch.cat([*above[1::2], value], 2)
    if window not in tree.plans:
        seen = sees(tree.limb, window, query.device)
        tree.plans[window] = create_block_mask(
            lambda _row, _head, q, k: seen(q, k), None, None, query.shape[2], key.shape[2], query.device
        )
    compute = _compiled_flex() if query.is_cuda else _flex()
    out: Tensor = compute(query, key, value, block_mask=tree.plans[window], scale=scale, enable_gqa=True)
    return out


@cache
def _flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


@cache
def _compiled_flex() -> Callable[..., Any]:
    return torch.compile(_flex(), dynamic=True)


# ----------------------------------------------------------------------------------------------- by blocks


def blocks(
    query: Tensor, key: Tensor, value: Tensor, tree: Looking, above: list[Tensor], scale: float, window: int | None
) -> Tensor:
    if window not in tree.plans:
        limb = tree.limb
        depths = [one.depth_T for one in limb.above]
        tree.plans[window] = in_window(
            limb.looks, limb.depth_T, lambda of: limb.depth_T if of is None else depths[of], window
        )
    out: Tensor = _Blocks.apply(query, key, value, tree.plans[window], scale, *above)  # type: ignore[no-untyped-call]
    return out


class _Blocks(torch.autograd.Function):
    """Flash attention of each look, merged by log-sum-exp.

    In backward each look is given the merged result and log-sum-exp, as in ring attention: what it computes from them
    is exactly its share of the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, shown: list[Shown], scale: float, *above: Tensor
    ) -> Tensor:
        out, lse = attended(query, key, value, above, shown, scale)
        out = out.to(query.dtype)
        ctx.save_for_backward(query, key, value, out, lse, *above)
        ctx.shown, ctx.scale = shown, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        query, key, value, out, lse, *above = ctx.saved_tensors
        grad = grad.to(query.dtype).contiguous()
        d_query, d_key, d_value, *d_above = (
            torch.zeros_like(one, dtype=torch.float32) for one in (query, key, value, *above)
        )
        for look, mask in ctx.shown:
            here, there = slice(look.first, look.last), slice(look.low, look.high)
            q, k, v = slices(look, query, key, value, above)
            merged = (grad[:, :, here], out[:, :, here], lse[:, :, here])
            dq, dk, dv = flash_backward(*merged, q, k, v, look.causal, mask, ctx.scale)
            to_key, to_value = (d_key, d_value) if look.of is None else d_above[2 * look.of : 2 * look.of + 2]
            d_query[:, :, here] += dq
            to_key[:, :, there] += dk
            to_value[:, :, there] += dv
        into = (one.to(query.dtype) for one in d_above)
        return d_query.to(query.dtype), d_key.to(query.dtype), d_value.to(query.dtype), None, None, *into
