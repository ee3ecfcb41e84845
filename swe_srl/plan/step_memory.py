"""What one piece's forward and backward hold, in bytes: the training's own code on fake tensors, which are counted.

Fake tensors have shapes and no memory, so a step of 7B parameters over 16,384 tokens is counted on a laptop. Two and
three layers are counted; all further ones are alike.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from swe_srl.config import Lora
from swe_srl.plan.live_bytes import LiveBytes
from swe_srl.ranges import has_windows, use_ranges
from swe_srl.train.head import chosen
from swe_srl.train.model import checkpoint_activations, core, with_lora
from swe_srl.train.pieces import Piece, pack
from swe_srl.train.tree import Strand
from swe_srl.train.tree_attention import Looking, blocks
from swe_srl.train.trunk import hidden_states

ROWS = "counted-rows"


@dataclass(frozen=True, slots=True)
class Pass:
    """A piece of `tokens` tokens, of which `predicted` are learnt, in `answers` answers to one prompt.

    `masters`: parameters are float32 and cast by autocast; else they are in the compute type, as FSDP gathers them.
    """

    tokens: int
    predicted: int
    answers: int
    dtype: torch.dtype
    cuda: bool
    masters: bool = True
    checkpointing: bool = False
    share: bool = True
    lora: Lora | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes: `kept` between forward and backward; `peak` at most, with what backward makes meanwhile."""

    kept: int
    peak: int


def held(config: Any, one: Pass) -> Held:
    """Of a whole network's pass, beside its parameters and their gradients. `config` is transformers' own."""
    layers, piece = config.get_text_config().num_hidden_layers, piece_of(one)
    if layers <= 3:
        return _counted(config, layers, one, piece)
    two, three = (_counted(config, n, one, piece) for n in (2, 3))
    more = layers - 2
    return Held(two.kept + more * (three.kept - two.kept), two.peak + more * (three.peak - two.peak))


def piece_of(one: Pass) -> Piece:
    """A piece as `pack` makes it: a prompt with its answers, or as many rows. The tokens' values do not matter."""
    answer, row = max(one.predicted // one.answers, 1), max(one.tokens // one.answers, 2)
    prompt = one.tokens - one.answers * answer + one.answers if one.share else row - min(answer, row - 1) + 1
    length = answer if one.share else row - prompt + 1
    strands = [Strand((0,) * max(prompt, 1), (n + 1,) * length, n * length) for n in range(one.answers)]
    (piece,) = pack([strands], max(2 * one.tokens, 2 * one.answers * len(strands[0].inputs)), share=one.share)
    return piece


def _counted(config: Any, layers: int, one: Pass, piece: Piece) -> Held:
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = _model(config, layers, one)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)  # of a batch's pieces all but the first find it there
        ids_N = torch.zeros(len(piece.slot_N), dtype=torch.long)
        with LiveBytes() as memory:
            logp_N = _log_probs(model, piece, ids_N, one)
            kept = memory.live
            logp_N.sum().backward()
        return Held(kept, memory.peak)


def _model(config: Any, layers: int, one: Pass) -> Any:
    from transformers import AutoModelForCausalLM

    dtype = torch.float32 if one.masters and one.lora is None else one.dtype  # what is frozen is in the compute type
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(_shortened(config, layers), dtype=dtype)
    model.eval()
    if one.lora is not None:
        model = with_lora(model, one.lora, 0)
    _set_attention(core(model), one)
    if one.checkpointing:
        checkpoint_activations(model)
    return _fake(model)


def _set_attention(model: Any, one: Pass) -> None:
    if one.share:
        use_ranges(model, lambda _: None)  # whether its layers can is tried when a stage begins
    else:
        AttentionInterface.register(ROWS, _rows_attend)
        AttentionMaskInterface.register(ROWS, sdpa_mask)
        model.set_attn_implementation(ROWS)


def _fake(model: Any) -> Any:
    """The same on fake memory of the CPU: autocast does not know the meta device."""
    made: dict[Tensor, Tensor] = {}  # tied ones stay one
    for module in model.modules():
        for name, old in list(module.named_parameters(recurse=False)) + list(module.named_buffers(recurse=False)):
            if old not in made:
                new = torch.empty(old.shape, dtype=old.dtype, device="cpu")
                made[old] = torch.nn.Parameter(new, old.requires_grad) if isinstance(old, torch.nn.Parameter) else new
            setattr(module, name, made[old])
    return model


def _shortened(config: Any, layers: int) -> Any:
    config = copy.deepcopy(config.get_text_config())
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    config.num_hidden_layers = layers
    return config


def _log_probs(model: Any, piece: Piece, ids_N: Tensor, one: Pass) -> Tensor:
    """`train.model.log_probs`, with an attention that can be counted where the real one needs a GPU or numbers."""
    inner = core(model)
    with torch.autocast("cpu", dtype=one.dtype, enabled=one.dtype != torch.float32):
        if piece.limb is None:
            unread = torch.ones(1, 1, 1, 1, dtype=torch.bool)  # a mask of four axes is left as it is
            rows = {"input_ids": piece.ids_RT, "position_ids": piece.depth_RT, "attention_mask": unread}
            hidden_RTD = inner.base_model(**rows, use_cache=False).last_hidden_state
        else:
            way = _flash if one.cuda or has_windows(inner.config) else blocks
            hidden_RTD = hidden_states(inner.base_model, piece.limb, way)
        logp_N, _ = chosen(inner, hidden_RTD[piece.row_N, piece.source_N], ids_N, 1.0, one.dtype)
        return logp_N


def _flash(
    query: Tensor, key: Tensor, value: Tensor, tree: Looking, above: list[Tensor], scale: float, window: int | None
) -> Tensor:
    """What any flash attention keeps: query, key, value, result, and a log-sum-exp of each query and head."""
    tree.plans[window] = True
    out: Tensor = _Flash.apply(query, key, value)  # type: ignore[no-untyped-call]
    return out


def _rows_attend(_: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **more: Any) -> tuple[Tensor, None]:
    """The same in transformers' words."""
    query, key = query.to(value.dtype), key.to(value.dtype)
    out: Tensor = _Flash.apply(query, key, value)  # type: ignore[no-untyped-call]
    return out.transpose(1, 2).contiguous(), None


class _Flash(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:3], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def forward_peak(config: Any, tokens: int, dtype: torch.dtype) -> int:
    """Bytes that a forward pass without gradients holds at most beside weights and cache: as a prefill has it."""
    layers = min(config.get_text_config().num_hidden_layers, 2)
    one = Pass(tokens, 1, 1, dtype, cuda=True, masters=False)
    limb = piece_of(one).limb
    assert limb is not None
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model = _model(config, layers, one)
        with LiveBytes() as memory:
            hidden_states(model.base_model, limb, _flash)
        peak: int = memory.peak
    return peak
