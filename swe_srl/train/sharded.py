"""A network whose weights, gradients and Adam's state are shared by the ranks of a training: torch's FSDP2.

Each decoder layer is gathered when its turn comes and given back after it; the rest (embeddings, last norm, output
layer) is the root's. Compute is in the config's dtype, the masters and what is summed over ranks in float32. A token's
weight is of the whole batch, so gradients are summed over ranks, and never averaged.

Every forward and backward pass is a collective: all ranks make as many, in the same order (`passes.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from swe_srl.train.distributed import World


class Sharded(nn.Module):
    """The root: what is computed within its call has the root's weights, and a layer's in the layer's call."""

    def __init__(self, network: Any, world: World, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.world = world
        self._device, self._dtype = device, dtype

    def forward(self, compute: Callable[[], Any]) -> Any:
        """`compute` is a function, since FSDP makes copies of what else holds tensors, and pieces know each other."""
        with torch.autocast(self._device, dtype=self._dtype, enabled=self._dtype != torch.float32):
            return compute()


def shard(
    network: Any,
    dtype: torch.dtype,
    world: World,
    device: str | None = None,
    fill: Callable[[Any, nn.Module], None] = lambda network, part: None,
) -> Sharded:
    """Share a network, an adapted one too, among all ranks; it is changed in place.

    Where it is on no device (the meta device), `device` is the kind that ranks have, and `fill` gives a part of it its
    weights, just before they are shared.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    device = device or next(network.parameters()).device.type
    mesh = init_device_mesh(device, (world.size,))
    policy = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    model = Sharded(network, world, device, dtype)
    for layer in layers_of(network):
        fill(network, layer)
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fill(network, network)
    # The root's too go back after forward: between passes every weight is its shard, whoever reads it.
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


def layers_of(network: Any) -> list[Any]:
    """The decoder layers: what transformers itself computes again in backward where it is so asked."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]


def full(tensor: Tensor) -> Tensor:
    """A tensor with the shards of all ranks, which all call this; one that is not shared is whole."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
