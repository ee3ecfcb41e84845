"""How a transformers model computes over ranges of keys: by the library's own interface for attention functions.

No model code is copied: a layer calls `attend`, which asks what came along with the forward pass. Used where the
sequences of a trie are learnt (train/tree_attention.py), and where answers are sampled over one (engines/trie.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "ranges"


class Ranges(Protocol):
    """What a forward pass over a trie brings along: who looks at what, and where the keys and values are."""

    plans: dict[int | None, Any]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor: ...


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    ranges: Ranges | None = None,
    **more: Any,
) -> tuple[Tensor, Tensor | None]:
    """What a model's layer calls: query [1, H, T, D] → [1, T, H, D]. Without `ranges` it is transformers' own.

    Raises NotImplementedError for what is no function of (query, key, depths).
    """
    if ranges is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, sliding_window=sliding_window, **more
        )
    if odd := [name for name in ("softcap", "s_aux", "position_bias") if more.get(name) is not None]:
        raise NotImplementedError(f"its attention has {', '.join(odd)}")
    query, key = query.to(value.dtype), key.to(value.dtype)  # autocast leaves rotated ones in float32
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = ranges.attend(module.layer_idx, query, key, value, scale, sliding_window)
    return out.to(query.dtype).transpose(1, 2).contiguous(), None


def over_ranges(model: Any, ids: Any, depth: Any, ranges: Ranges, **more: Any) -> Any:
    """A forward pass over one row of tokens. Raises NotImplementedError for a model that does not look at ranges."""
    assert model.config._attn_implementation == NAME, "without its attention function a model would see all before"
    ids_1T, depth_1T = (torch.as_tensor(one, device=model.device)[None] for one in (ids, depth))
    everything = torch.ones(1, 1, 1, 1, dtype=torch.bool)  # a mask of four axes is left as it is, and not looked at
    out = model(
        input_ids=ids_1T, position_ids=depth_1T, attention_mask=everything, use_cache=False, ranges=ranges, **more
    )
    if not ranges.plans:
        raise NotImplementedError("its layers do not hand on what their attention is to look at")
    if has_windows(model.config) and set(ranges.plans) == {None}:
        raise NotImplementedError("its windows are in its masks alone")
    return out


def use_ranges(model: Any, trouble: Callable[[Any], str | None]) -> str | None:
    """Let a model's layers call `attend`, or leave the model as it is and tell what is wrong with that.

    `trouble` tries a small trie, and says what is wrong with it.
    """
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    found = _odd(model.config)
    if found is not None:
        return found
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        found = trouble(model)
    except (RuntimeError, TypeError, ValueError, AssertionError, LookupError, AttributeError) as error:
        found = str(error).strip().partition("\n")[0] or type(error).__name__
    if found is not None:
        model.set_attn_implementation(before)
    return found


def _odd(config: Any) -> str | None:
    """What makes a model's attention more than a function of (query, key, depths), as far as its config tells."""
    config = config.get_text_config()
    if odd := sorted(_kinds(config) - {"full_attention", "sliding_attention"}):
        return f"it has layers of {', '.join(odd)}"
    rope = getattr(config, "rope_parameters", None) or {}
    of_layers = [one for one in rope.values() if isinstance(one, dict)] or [rope]
    if moving := {str(one.get("rope_type")) for one in of_layers} & {"dynamic", "longrope"}:
        return f"its positions depend on the longest sequence of a pass ({', '.join(moving)})"
    return None


def has_windows(config: Any) -> bool:
    config = config.get_text_config()
    if hasattr(config, "layer_types"):
        return "sliding_attention" in _kinds(config)
    return bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)


def _kinds(config: Any) -> set[str]:
    return set(getattr(config, "layer_types", None) or ["full_attention"])
