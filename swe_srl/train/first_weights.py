"""A stage's first weights on several ranks: rank 0 reads them, and each tensor goes to all of them in its turn.

Every rank has the network on the meta device, where a tensor has a shape and no memory. A part of it is filled when it
is about to be shared (`sharded.py`): so a rank's device holds its shards and one decoder layer, and the host of rank 0
alone the whole. Every method is called by all ranks, in the same order.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from swe_srl.errors import ConfigError
from swe_srl.train.distributed import World
from swe_srl.train.model import load_model, model_on_meta


class FirstWeights:
    """`read` is the network with its weights, on rank 0's host; on other ranks None."""

    def __init__(self, read: Any | None, device: torch.device) -> None:
        self.read, self.device = read, device

    @classmethod
    def of(cls, path: str, device: torch.device, dtype: torch.dtype, world: World) -> tuple[FirstWeights, Any]:
        """They, and the network that they are for, without memory. Raises ConfigError."""
        read = load_model(path, torch.device("cpu"), dtype) if world.leads else None
        network = model_on_meta(path, dtype) if read is None else _without_memory(read)
        shapes = {name: tuple(one.shape) for name, one in _named(network).items()}
        if shapes != world.agreed(shapes):
            raise ConfigError(
                f"model.path: {path}: its files do not hold the weights that its config.json tells of, so they cannot "
                "be sent from rank to rank: load it and save it again with save_pretrained"
            )
        return cls(read, device), network

    def each(self, network: Any) -> Iterator[tuple[str, Tensor]]:
        """All weights by name, whole, one after another."""
        for name, one in network.named_parameters():
            yield name, self._sent(name, one)

    def whole(self, network: Any) -> Any:
        """A copy of the network with all of its weights."""
        return _with(network, {id(one): self._like(name, one) for name, one in _named(network).items()})

    def fill(self, network: Any, part: nn.Module) -> None:
        """Give what has no memory yet in a part of the network its weights, in place. Tied ones stay one."""
        names = {id(one): name for name, one in _named(network).items()}
        made: dict[int, Tensor] = {}
        for module in part.modules():
            for name, one in _own(module):
                if one.is_meta:
                    if id(one) not in made:
                        made[id(one)] = self._like(names[id(one)], one)
                    setattr(module, name, made[id(one)])

    def _like(self, name: str, one: Tensor) -> Tensor:
        """The weight of this name, as a parameter where `one` is."""
        sent = self._sent(name, one)
        return nn.Parameter(sent, one.requires_grad) if isinstance(one, nn.Parameter) else sent

    def _sent(self, name: str, like: Tensor) -> Tensor:
        from torch import distributed

        if self.read is None:
            tensor = torch.empty(like.shape, dtype=like.dtype, device=self.device)
        else:
            tensor = _named(self.read)[name].detach().to(self.device, like.dtype, copy=True)
        distributed.broadcast(tensor, src=0)
        return tensor


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def _named(network: Any) -> dict[str, Tensor]:
    """Parameters and buffers, of tied ones the first."""
    return dict(chain(network.named_parameters(), network.named_buffers()))


def _without_memory(network: Any) -> Any:
    """The same network, with all that was read beside its weights, on the meta device."""

    def shape(one: Tensor) -> Tensor:
        empty = torch.empty_like(one, device="meta")
        return nn.Parameter(empty, one.requires_grad) if isinstance(one, nn.Parameter) else empty

    return _with(network, {id(one): shape(one) for one in _named(network).values()})


def _with(network: Any, tensors: Mapping[int, Tensor]) -> Any:
    """A copy that has other tensors, by the ids of those in their place."""
    return copy.deepcopy(network, dict(tensors))
