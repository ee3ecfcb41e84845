"""A forward pass over pieces of a trie. What hangs on a trunk is computed while its keys and values are held.

A trunk's keys and values are first computed without gradients. The pieces below look at copies of them, where their
gradients gather. When the trunk's own turn comes it is computed with gradients, and its backward takes in what was
gathered: the sum is the gradient of the whole trie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from swe_srl.ranges import over_ranges
from swe_srl.train.pieces import Limb
from swe_srl.train.tree_attention import Looking, way_of


def hidden_states(model: Any, limb: Limb, way: Callable[..., Tensor] | None = None) -> Tensor:
    """[1, T, D]: the hidden states of a piece of a trie. `model` is the transformers model, without its head."""
    looking = Looking(limb, way or way_of(model.device))
    for trunk in limb.above:
        hold(model, trunk, looking.way)
    hidden_1TD = _forward(model, looking)
    if not limb.is_trunk:
        return hidden_1TD
    if torch.is_grad_enabled() and limb.keys is not None:
        own = (one for layer in sorted(looking.own) for one in looking.own[layer])
        joined: Tensor = _TakeIn.apply(hidden_1TD, limb, *own)  # type: ignore[no-untyped-call]
        return joined
    limb.keys = None  # nothing that comes after it looks at it
    return hidden_1TD


def hold(model: Any, trunk: Limb, way: Callable[..., Tensor] | None = None) -> None:
    """Compute a trunk's keys and values for those below it, where they are not there yet."""
    if trunk.keys is not None:
        return
    for above in trunk.above:
        hold(model, above, way)
    looking = Looking(trunk, way or way_of(model.device))
    with torch.no_grad():
        _forward(model, looking)
    trunk.keys = [
        (key.detach().requires_grad_(), value.detach().requires_grad_())
        for key, value in (looking.own[layer] for layer in sorted(looking.own))
    ]


def _forward(model: Any, looking: Looking) -> Tensor:
    limb = looking.limb
    hidden_1TD: Tensor = over_ranges(model, limb.ids_T, limb.depth_T, looking).last_hidden_state
    return hidden_1TD


class _TakeIn(torch.autograd.Function):
    """A trunk's hidden states as they are; backward adds what the pieces below learnt about its keys and values."""

    @staticmethod
    def forward(ctx: Any, hidden_1TD: Tensor, trunk: Limb, *own: Tensor) -> Tensor:
        ctx.trunk = trunk
        return hidden_1TD.view_as(hidden_1TD)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        assert ctx.trunk.keys is not None
        gathered = [one.grad for pair in ctx.trunk.keys for one in pair]
        ctx.trunk.keys = None
        return grad, None, *gathered
