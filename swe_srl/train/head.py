"""A model's output layer: log-probabilities of chosen tokens, with a bounded number of logits in memory at a time.

Logits are computed again in backward, chunk by chunk, so that neither pass holds length × vocabulary: those of 256
predictions at least, of which two or three copies are alive at a time. Each chunk's are turned into probabilities and
gradients in place: for a small model with a vocabulary of 262,144 that is most of what its output layer costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_LOGITS = 2**22  # held at once: 16 MB in float32,
_ROWS = 256  # but never of fewer predictions: each chunk adds to a gradient of the whole matrix


def logits_of(model: Any, hidden: Tensor) -> Tensor:
    """[…, V]: the output layer on hidden states, as the model itself applies it."""
    logits: Tensor = model.get_output_embeddings()(hidden)
    cap = _cap(model)
    return cap * torch.tanh(logits / cap) if cap else logits


def chosen(
    model: Any, hidden_ND: Tensor, ids_N: Tensor, temperature: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy (nats, detached) of each prediction, [N] and [N], of logits / temperature.

    The matrix product is in `dtype`, all else in float32.
    """
    layer = model.get_output_embeddings()
    return _Chosen.apply(hidden_ND, _weight(layer), layer.bias, ids_N, temperature, _cap(model), dtype)  # type: ignore


def _weight(layer: Any) -> Tensor:
    """[V, D], with what an adapter of the output layer adds to it."""
    weight: Tensor = layer.weight
    if hasattr(layer, "base_layer") and not layer.disable_adapters:
        weight = weight + sum(layer.get_delta_weight(adapter) for adapter in layer.active_adapters)
    return weight


def _cap(model: Any) -> float | None:
    cap: float | None = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return cap


class _Chosen(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        ids_N: Tensor,
        temperature: float,
        cap: float | None,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        ctx.temperature, ctx.cap, ctx.dtype = temperature, cap, dtype
        lse_N, logp_N, entropy_N = (hidden_ND.new_empty(len(hidden_ND), dtype=torch.float32) for _ in range(3))
        weight = weight_VD.to(dtype)
        for rows in _chunks(hidden_ND, weight):
            logits_nV = _logits(hidden_ND[rows].to(dtype), weight, bias_V, cap).div_(temperature)
            top_n1 = logits_nV.amax(-1, keepdim=True)
            share_nV = (logits_nV - top_n1).exp_()
            total_n = share_nV.sum(-1)
            lse_N[rows] = total_n.log() + top_n1[:, 0]
            logp_N[rows] = logits_nV.gather(-1, ids_N[rows, None])[:, 0] - lse_N[rows]
            entropy_N[rows] = lse_N[rows] - torch.linalg.vecdot(share_nV, logits_nV) / total_n
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, ids_N, lse_N)
        ctx.mark_non_differentiable(entropy_N)
        return logp_N, entropy_N

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor, _entropy: Tensor) -> Any:
        hidden_ND, weight_VD, bias_V, ids_N, lse_N = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        d_hidden = torch.empty_like(hidden_ND) if wants_hidden else None
        d_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if wants_weight else None
        d_bias = torch.zeros_like(bias_V) if wants_bias else None
        weight = weight_VD.to(ctx.dtype)
        for rows in _chunks(hidden_ND, weight):
            hidden_nD, grad_n1 = hidden_ND[rows].to(ctx.dtype), grad_N[rows, None]
            logits_nV = _logits(hidden_nD, weight, bias_V, ctx.cap)
            slope_nV = 1 - (logits_nV / ctx.cap) ** 2 if ctx.cap else None  # of cap · tanh(x / cap)
            d_nV = logits_nV.div_(ctx.temperature).sub_(lse_N[rows, None]).exp_().mul_(-grad_n1)
            d_nV.scatter_add_(-1, ids_N[rows, None], grad_n1)
            d_nV.div_(ctx.temperature)
            if slope_nV is not None:
                d_nV.mul_(slope_nV)
            if d_bias is not None:
                d_bias += d_nV.sum(0)
            d_nV = d_nV.to(ctx.dtype)
            if d_hidden is not None:
                d_hidden[rows] = (d_nV @ weight).to(d_hidden.dtype)
            if d_weight is not None:
                if d_weight.dtype == ctx.dtype:
                    d_weight.addmm_(d_nV.T, hidden_nD)
                else:
                    d_weight += d_nV.T @ hidden_nD
        d_weight = None if d_weight is None else d_weight.to(weight_VD.dtype)  # chunks are summed in float32
        return d_hidden, d_weight, d_bias, None, None, None, None


def _chunks(hidden_ND: Tensor, weight_VD: Tensor) -> Iterator[slice]:
    size = max(_ROWS, _LOGITS // len(weight_VD))
    return (slice(first, first + size) for first in range(0, len(hidden_ND), size))


def _logits(hidden_nD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, cap: float | None) -> Tensor:
    logits_nV = (hidden_nD @ weight_VD.T).float()
    if bias_V is not None:
        logits_nV += bias_V
    return logits_nV.div_(cap).tanh_().mul_(cap) if cap else logits_nV
