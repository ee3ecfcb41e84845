"""What a network is, from its config alone: built on the meta device, where a tensor has a shape and no memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swe_srl.config import Lora, ModelConfig

SHAPES = "shapes"  # beside a config: shapes/OWNER/NAME/config.json, for a hub's models that are not here yet


@dataclass(frozen=True, slots=True)
class Shape:
    """Numbers, not bytes. `ends` are the parameters that are in no decoder layer: embeddings, output layer, last norm.

    `trained` is what has gradients: all, or an adapter's own, which come on top of `parameters`.
    """

    source: str
    parameters: int
    trained: int
    layers: int
    a_layer: int
    ends: int
    largest: int  # parameters of the largest matrix
    hidden: int
    vocabulary: int
    keys_values: int  # of a token in all layers
    attention: int  # Σ over layers of heads · head dimension: what a query's sum over its keys is as wide as
    positions: int | None

    @property
    def adapter(self) -> int:
        return 0 if self.trained == self.parameters else self.trained


def network(model: ModelConfig, config_path: str | None = None) -> tuple[Any, str]:
    """The network with all its layers but without memory, and where its config was read. Raises ConfigError.

    A hub's name is looked up under shapes/ beside the config first: nothing is downloaded for what lies there.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from swe_srl.train.model import model_on_meta, scratch_config

    if model.path is None:
        made = scratch_config(model.scratch, model.scratch.vocabulary)  # which may come out smaller
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(made), "model.scratch"
    beside = Path(config_path or ".").parent / SHAPES / model.path
    path = str(beside) if not Path(model.path).exists() and (beside / "config.json").is_file() else model.path
    return model_on_meta(path), path


def shape_of(model: Any, source: str, lora: Lora | None = None) -> Shape:
    from swe_srl.train.sharded import layers_of

    config = model.config.get_text_config()
    sizes = {name: one.numel() for name, one in model.named_parameters()}
    in_layers = [sum(one.numel() for one in layer.parameters()) for layer in layers_of(model)]
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    total = sum(sizes.values())
    return Shape(
        source=source,
        parameters=total,
        trained=total if lora is None else sum(lora.rank * sum(one.weight.shape) for one in adapted(model, lora)),
        layers=len(in_layers),
        a_layer=max(in_layers),
        ends=total - sum(in_layers),
        largest=max(sizes.values()),
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        keys_values=2 * key_heads * width * len(in_layers),
        attention=heads * width * len(in_layers),
        positions=getattr(config, "max_position_embeddings", None),
    )


def adapted(model: Any, lora: Lora) -> Iterator[Any]:
    """The linear layers that peft gives an adapter to."""
    import torch

    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            every = lora.targets == "all-linear" and module is not head
            if every or (lora.targets != "all-linear" and name.split(".")[-1] in lora.targets):
                yield module
