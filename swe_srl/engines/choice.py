"""Which engine answers: by `engine.kind`, with the weights of a model that is at hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from swe_srl.engines import Engine

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from swe_srl.config import EngineConfig


def open_engine(
    settings: EngineConfig,
    path: str,
    model: Any,
    dtype: torch.dtype,
    weights: Iterable[tuple[str, Tensor]] | None = None,
) -> Engine:
    """The engine that `settings` name, with the weights of `model`, which was loaded from `path`.

    vLLM takes `weights` in their place, one after another: then `model` may be on the meta device. Close the engine
    when it is not needed any more. Raises ConfigError.
    """
    if settings.ids().kind == "vllm":
        from swe_srl.engines.vllm import VLLMEngine

        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        engine = VLLMEngine(path, shapes, dtype, settings.max_batch_tokens, sleeps=settings.sleep)
        own = ((name, parameter.detach()) for name, parameter in model.named_parameters())
        engine.load_weights(own if weights is None else weights)  # as after every update: what is wrong shows at once
        return engine
    from swe_srl.engines.hf import HFEngine

    return HFEngine(model, dtype, settings.max_batch_tokens)


def vllm_trouble() -> str | None:
    """Why vLLM cannot be had here, and what to do; None: it can."""
    from importlib.util import find_spec

    from swe_srl.engines.vllm import INSTALL

    return None if find_spec("vllm") else INSTALL
