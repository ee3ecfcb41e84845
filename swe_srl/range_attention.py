"""Attention over ranges of keys: flash attention of each range, merged by their log-sum-exps.

What a trie of sequences comes down to, in training (train/tree_attention.py) and in sampling (engines/trie.py): a
token sees what is above it, which is a few ranges of keys, and tokens that see the same range look at it together.
How a model comes to use it: ranges.py. On the CPU; the kernels are torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class Look:
    """Queries [first, last) look at keys [low, high) of `above[of]`, or of those beside them where that is None.

    `causal`: the two ranges are one, and each looks at those up to its own place. Else each looks at all of them.
    """

    first: int
    last: int
    of: int | None
    low: int
    high: int
    causal: bool = False


Shown = tuple[Look, Tensor | None]  # a look, and what is added to its scores: -inf where a query may not see a key
Merged = tuple[Tensor, Tensor]  # a result [1, H, T, D] and its log-sum-exp [1, H, T], in float32


Where = tuple[int | None, int, int]  # `of`, and a range of its keys


def together(wanted: Iterable[tuple[int, int, Iterable[Where]]]) -> list[Look]:
    """Queries [first, last) and what they look at; those that lie side by side look at the same range together."""
    found: list[Look] = []
    latest: dict[Where, Look] = {}
    for first, last, ranges in wanted:
        for where in ranges:
            look = latest.get(where)
            if look is not None and look.last == first:
                look.last = last
            else:
                latest[where] = Look(first, last, *where)
                found.append(latest[where])
    return found


def attended(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    above: Sequence[Tensor],
    shown: Iterable[Shown],
    scale: float,
    so_far: Merged | None = None,
) -> Merged:
    """[1, H, T, D] at [1, Hkv, S, D], and at `above` (k, v, k, v, ...), as the looks say. Adds to `so_far`."""
    if so_far is None:
        out = torch.zeros_like(query, dtype=torch.float32)
        lse = query.new_full(query.shape[:3], float("-inf"), dtype=torch.float32)
    else:
        out, lse = so_far
    for look, mask in shown:
        here = slice(look.first, look.last)
        part, part_lse = flash(*slices(look, query, key, value, above), look.causal, mask, scale)
        merged = torch.logaddexp(lse[:, :, here], part_lse)
        kept, added = (lse[:, :, here] - merged).exp(), (part_lse - merged).exp()
        out[:, :, here] = out[:, :, here] * kept[..., None] + part * added[..., None]
        lse[:, :, here] = merged
    return out, lse


def in_window(
    looks: Iterable[Look], depth_T: Tensor, depths: Callable[[int | None], Tensor], window: int | None
) -> list[Shown]:
    """The looks of queries at depths `depth_T`, with what a window hides: whose depth is a window or more above.

    `depths` are those of the keys, of `above[of]` or beside. With a window queries come in turns of no more than it.
    """
    if window is None:
        return [(look, None) for look in looks]
    found: list[Shown] = []
    for look in looks:
        for first in range(look.first, look.last, window):
            last = min(first + window, look.last)
            if not look.causal:
                found += _seen(Look(first, last, look.of, look.low, look.high), depth_T, depths(look.of), window)
                continue
            own = look.low + first - look.first
            found.append((Look(first, last, None, own, own + last - first, causal=True), None))
            if first > look.first:
                found += _seen(Look(first, last, None, own - window, own), depth_T, depths(None), window)
    return sorted(found, key=lambda one: not one[0].causal)


def _seen(look: Look, depth_T: Tensor, depth_S: Tensor, window: int) -> list[Shown]:
    """Keys that are too far above for all of its queries are left out, and masked from some of them."""
    depth_q, depth_k = depth_T[look.first : look.last], depth_S[look.low : look.high]
    far = int((depth_k <= depth_q.min() - window).sum())  # keys of a look lie one below the other
    seen = depth_q[:, None] - depth_k[far:] < window
    if not bool(seen.any()):
        return []
    mask = None if bool(seen.all()) else torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))
    return [(Look(look.first, look.last, look.of, look.low + far, look.high), mask)]


def slices(
    look: Look, query: Tensor, key: Tensor, value: Tensor, above: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    if look.of is not None:
        key, value = above[2 * look.of], above[2 * look.of + 1]
    there = slice(look.low, look.high)
    return query[:, :, look.first : look.last], key[:, :, there], value[:, :, there]


# The kernels want as many heads of keys as of queries. Heads that share keys are repeated where the look is causal;
# else their queries lie one after another, and nothing is copied.


def flash(q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """[R, H, t, D] at [R, Hkv, s, D] → the result and its log-sum-exp [R, H, t]."""
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    groups = q.shape[1] // k.shape[1]
    if causal:
        out, lse = flash(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), 0.0, True, scale=scale)
        return out, lse
    out, lse = flash(_by_keys(q, k), k, v, 0.0, False, attn_mask=_repeated(mask, groups, q), scale=scale)
    out, lse = out.reshape(q.shape), lse.reshape(q.shape[:3])
    if mask is not None:  # the kernel says 0 of a query that sees nothing
        lse = lse.masked_fill(mask.isinf().all(-1), float("-inf"))
    return out, lse


def flash_backward(
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool,
    mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    groups = q.shape[1] // k.shape[1]
    if causal:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        dq, dk, dv = flash(grad, q, k, v, out, _as_kernel(lse), 0.0, True, scale=scale)
        return dq, dk.unflatten(1, (-1, groups)).sum(2), dv.unflatten(1, (-1, groups)).sum(2)
    grad, out, lse, queries = (_by_keys(one, k) for one in (grad, out, lse, q))
    mask = _repeated(mask, groups, q)
    dq, dk, dv = flash(grad, queries, k, v, out, _as_kernel(lse), 0.0, False, attn_mask=mask, scale=scale)
    return dq.reshape(q.shape), dk, dv


def _by_keys(one: Tensor, k: Tensor) -> Tensor:
    """[R, H, t, …] → [R, Hkv, groups · t, …]"""
    return one.reshape(len(one), k.shape[1], -1, *one.shape[3:])


def _repeated(mask: Tensor | None, groups: int, q: Tensor) -> Tensor | None:
    return None if mask is None else mask.to(q.dtype).repeat(groups, 1)[None, None]


def _as_kernel(lse: Tensor) -> Tensor:
    """The kernel reads it by (batch, query, head), whatever its strides say."""
    return lse.transpose(1, 2).contiguous().transpose(1, 2)
