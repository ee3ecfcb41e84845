"""A trainer's state in shards, one file a rank: torch's distributed checkpoint, which any number of ranks reads.

.metadata, __R_0.distcp   float32 weights and Adam's state, by the weights' names
progress.pt               where the stage stands
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swe_srl.disk import folder_aside
from swe_srl.train.distributed import World


def save(path: Path, progress: Mapping[str, Any], network: Any, optimizer: Any, world: World) -> None:
    """Every rank writes its shards aside; rank 0 gives the folder its name when all of them are on disk."""
    from torch.distributed.checkpoint.state_dict_saver import save as write

    shards = path.with_name(path.name + ".tmp")
    with folder_aside(path) if world.leads else contextlib.nullcontext(shards) as aside:
        world.wait()
        write(_state(network, optimizer), checkpoint_id=aside)
        if world.leads:
            torch.save(dict(progress), aside / "progress.pt")
        world.wait()
    world.wait()


def is_sharded(path: Path) -> bool:
    return (path / ".metadata").exists()


def load(path: Path, network: Any, optimizer: Any) -> dict[str, Any]:
    """Into network and optimizer, whoever and however many saved it; its progress."""
    from torch import distributed
    from torch.distributed.checkpoint.state_dict_loader import load as read

    progress: dict[str, Any] = torch.load(path / "progress.pt", map_location="cpu", weights_only=True)
    if progress["step"]:  # before the first one Adam has no state
        for parameter in _trained(network).values():
            optimizer.state[parameter] = _fresh(parameter)
    read(_state(network, optimizer), checkpoint_id=path, no_dist=not distributed.is_initialized())
    return progress


@torch.no_grad()
def spread(weights: Mapping[str, Tensor], optimizer_state: Mapping[str, Any], network: Any, optimizer: Any) -> None:
    """What one process saved whole: each rank takes its shards. Adam's state is by the optimizer's order."""
    trained = _trained(network)
    for name, value in weights.items():
        trained[name].copy_(_like(trained[name], value))
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, of_one in optimizer_state["state"].items():
        parameter = ordered[number]
        optimizer.state[parameter] = {
            key: _like(parameter, value) if value.shape == parameter.shape else value for key, value in of_one.items()
        }


def _state(network: Any, optimizer: Any) -> dict[str, Any]:
    """What is read and written in place."""
    trained = _trained(network)
    return {
        "weights": {name: parameter.detach() for name, parameter in trained.items()},
        "adam": {name: dict(optimizer.state[one]) for name, one in trained.items() if one in optimizer.state},
    }


def _trained(network: Any) -> dict[str, Any]:
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def _fresh(parameter: Tensor) -> dict[str, Tensor]:
    """AdamW's, of no step yet."""
    zeros = (torch.zeros_like(parameter.detach()) for _ in range(2))
    return {"step": torch.tensor(0.0), **dict(zip(("exp_avg", "exp_avg_sq"), zeros, strict=True))}


def _like(parameter: Any, value: Tensor) -> Tensor:
    """A whole tensor in the shards of a parameter; every rank has the whole, so nothing is sent."""
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(value.to(parameter.device), mesh, placements, src_data_rank=None)
