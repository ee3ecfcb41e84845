"""Which engine answers: by `engine.kind`, with the weights of a model that is at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swe_srl.engines import Engine

if TYPE_CHECKING:
    import torch

    from swe_srl.config import EngineConfig


def open_engine(settings: EngineConfig, path: str, model: Any, dtype: torch.dtype) -> Engine:
    """The engine that `settings` name, with the weights of `model`, which was loaded from `path`.

    Close it when it is not needed any more. Raises ConfigError.
    """
    if settings.ids().kind == "vllm":
        from swe_srl.engines.vllm import VLLMEngine

        weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        engine = VLLMEngine(path, shapes, dtype, settings.max_batch_tokens, sleeps=settings.sleep)
        engine.load_weights(weights.items())  # as after every update: what is wrong with it shows at once
        return engine
    from swe_srl.engines.hf import HFEngine

    return HFEngine(model, dtype, settings.max_batch_tokens)


def vllm_trouble() -> str | None:
    """Why vLLM cannot be had here, and what to do; None: it can."""
    from importlib.util import find_spec

    from swe_srl.engines.vllm import INSTALL

    return None if find_spec("vllm") else INSTALL
