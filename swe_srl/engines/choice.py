"""Which engine answers: by `engine.kind`, over the weights of a model that is at hand."""

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
    from swe_srl.engines.hf import HFEngine

    return HFEngine(model, dtype, settings.ids().max_batch_tokens)
