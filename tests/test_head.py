"""The output layer in chunks beside torch's own: values, entropy and every gradient."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made import make_qwen2
from torch import Tensor

from swe_srl.config import Lora
from swe_srl.errors import ConfigError
from swe_srl.train import head
from swe_srl.train.model import with_lora

N, D, V = 11, 6, 50


def layer_of(bias: bool, cap: float | None) -> Any:
    """What `chosen` asks of a model."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(D, V, bias=bias)
    text = SimpleNamespace(final_logit_softcapping=cap)
    config = SimpleNamespace(get_text_config=lambda: text)
    return SimpleNamespace(get_output_embeddings=lambda: layer, config=config)


def plainly(model: Any, hidden_ND: Tensor, ids_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logp_NV = (head.logits_of(model, hidden_ND) / temperature).log_softmax(-1)
    return logp_NV.gather(-1, ids_N[:, None])[:, 0], -(logp_NV.exp() * logp_NV).sum(-1)


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_in_chunks_as_in_one(
    monkeypatch: pytest.MonkeyPatch, bias: bool, temperature: float, cap: float | None, frozen: bool
) -> None:
    monkeypatch.setattr(head, "_ROWS", 3)
    monkeypatch.setattr(head, "_LOGITS", 3 * V)
    model = layer_of(bias, cap)
    layer = model.get_output_embeddings().requires_grad_(not frozen)
    hidden_ND = torch.randn(N, D, requires_grad=True)
    ids_N, weight_N = torch.arange(N) * 3, torch.randn(N)
    learnt = [hidden_ND, *(one for one in layer.parameters() if not frozen)]

    logp_N, entropy_N = head.chosen(model, hidden_ND, ids_N, temperature, torch.float32)
    ours = torch.autograd.grad((logp_N * weight_N).sum(), learnt)
    expected_N, expected_entropy_N = plainly(model, hidden_ND, ids_N, temperature)
    theirs = torch.autograd.grad((expected_N * weight_N).sum(), learnt)

    torch.testing.assert_close(logp_N, expected_N)
    torch.testing.assert_close(entropy_N, expected_entropy_N)
    assert not entropy_N.requires_grad
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_an_adapter_of_the_output_layer_is_learnt() -> None:
    peft = pytest.importorskip("peft")
    ours = make_qwen2(V, num_hidden_layers=1)
    adapted = peft.get_peft_model(ours, peft.LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False))
    hidden_ND, ids_N = torch.randn(N, ours.config.hidden_size), torch.arange(N)
    logp_N, _ = head.chosen(adapted.get_base_model(), hidden_ND, ids_N, 1.0, torch.float32)
    torch.testing.assert_close(logp_N, plainly(adapted.get_base_model(), hidden_ND, ids_N, 1.0)[0])
    logp_N.sum().backward()
    assert all(float(one.grad.abs().sum()) > 0 for one in adapted.parameters() if one.requires_grad)
    with adapted.disable_adapter():
        logp_N, _ = head.chosen(adapted.get_base_model(), hidden_ND, ids_N, 1.0, torch.float32)
        torch.testing.assert_close(logp_N, plainly(adapted.get_base_model(), hidden_ND, ids_N, 1.0)[0])


def test_logits_far_from_zero_stay_finite() -> None:
    model = layer_of(True, None)
    hidden_ND = torch.full((N, D), 1e4, requires_grad=True)
    logp_N, entropy_N = head.chosen(model, hidden_ND, torch.arange(N), 1.0, torch.float32)
    logp_N.sum().backward()
    assert logp_N.isfinite().all()
    assert entropy_N.isfinite().all()
    assert hidden_ND.grad is not None
    assert hidden_ND.grad.isfinite().all()


def test_no_predictions_are_no_trouble() -> None:
    """A trunk of a trie may predict nothing."""
    model = layer_of(False, None)
    hidden_ND = torch.zeros(0, D, requires_grad=True)
    logp_N, _ = head.chosen(model, hidden_ND, torch.zeros(0, dtype=torch.long), 1.0, torch.float32)
    logp_N.sum().backward()
    assert logp_N.shape == (0,)


def test_an_adapter_of_tied_layers_is_refused() -> None:
    pytest.importorskip("peft")
    for layer in ("lm_head", "embed_tokens"):
        model = make_qwen2(V, num_hidden_layers=1, tie_word_embeddings=True)
        with pytest.raises(ConfigError, match="one matrix"):
            with_lora(model, Lora(rank=2, targets=[layer]), 0)
