"""A training's network built without memory, shared among ranks that do not run, its names mapped to vLLM's.

The meta device has shapes alone, and torch's "fake" process group answers every collective at once: FSDP2 itself cuts
the weights, by the code that cuts them under torchrun.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

import torch

from swe_srl.errors import ConfigError
from swe_srl.train.distributed import World
from swe_srl.train.model import with_lora
from swe_srl.train.prepare import optimizer_of
from swe_srl.train.sharded import shard
from swe_srl.train_config import TrainConfig

# What vLLM holds in one matrix, row below row: `packed_modules_mapping` of its Qwen2, Qwen3, Llama, Mistral, Gemma 3.
PACKED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}

Shapes = Mapping[str, tuple[int, ...]]


def dry_run(config: TrainConfig, network: Any, ranks: int) -> dict[str, Any]:
    """Every weight with its shard and its name in vLLM, and the optimizer's groups.

    Raises ConfigError where something cannot be built.
    """
    served = in_vllm(shapes_of(network))
    where = {name: fused for fused, (_, names) in served.items() for name in names}
    dtype: torch.dtype = getattr(torch, config.model.dtype)
    network = copy.deepcopy(network)  # it is changed in place
    if config.model.lora is not None:
        network = with_lora(network, config.model.lora, config.seed)
    whole, groups = shapes_of(network), optimizer_of(network, config.stage[0]).param_groups
    first, last = (shards_of(network, dtype, rank, ranks) for rank in (0, ranks - 1))
    return {
        "ranks": ranks,
        "numbers": _numbers(whole),
        "on_first_rank": _numbers(first),
        "on_last_rank": _numbers(last),
        "optimizer": [
            {"weights": len(group["params"]), "numbers": _count(group), "weight_decay": group["weight_decay"]}
            for group in groups
        ],
        "in_vllm": len(served),
        "weights": [
            {"name": name, "shape": shape, "shard": first[name], "vllm": where.get(plain_name(name))}
            for name, shape in whole.items()
        ],
    }


def shapes_of(network: Any) -> Shapes:
    return {name: tuple(one.shape) for name, one in network.named_parameters()}


def shards_of(network: Any, dtype: torch.dtype, rank: int, ranks: int) -> Shapes:
    """What a rank holds of each weight. The network stays as it is."""
    if ranks == 1:
        return shapes_of(network)
    with fake_ranks(rank, ranks):
        shared = shard(copy.deepcopy(network), dtype, World(rank, ranks), "cpu")
        return {name: tuple(one.to_local().shape) for name, one in shared.network.named_parameters()}


@contextmanager
def fake_ranks(rank: int, size: int) -> Iterator[None]:
    """A process group of which this is a rank, and nobody else exists. Raises ConfigError within another one."""
    from torch import distributed
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if distributed.is_initialized():
        raise ConfigError("a dry run is of one process: start it without torchrun")
    distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def in_vllm(shapes: Shapes) -> dict[str, tuple[tuple[int, ...], list[str]]]:
    """vLLM's weights: their shapes, and the Hugging Face names of what lies in them, in order.

    Raises ConfigError for parts that do not fit side by side.
    """
    fused = {part: whole for whole, parts in PACKED.items() for part in parts}
    found: dict[str, tuple[tuple[int, ...], list[str]]] = {}
    for name, shape in shapes.items():
        *path, module, kind = name.split(".") if "." in name else ("", name)
        target = ".".join([*path, fused.get(module, module), kind])
        rows, names = found.get(target, ((0, *shape[1:]), []))
        if rows[1:] != shape[1:]:
            raise ConfigError(f"{name} of shape {shape} does not fit beside {', '.join(names)} in vLLM's {target}")
        found[target] = ((rows[0] + shape[0], *shape[1:]), [*names, name])
    return found


def plain_name(name: str) -> str:
    """A weight's own name, whatever adapter stands around it; an adapter's are not served by themselves."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def by_layer(name: str) -> str:
    """A name without the number of its layer: layers are alike."""
    return re.sub(r"\.\d+\.", ".*.", name)


def _numbers(shapes: Shapes) -> int:
    return sum(map(prod, shapes.values()))


def _count(group: Mapping[str, Any]) -> int:
    return sum(parameter.numel() for parameter in group["params"])
