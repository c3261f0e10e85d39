"""Several processes, one batch: shards of the weights, means over the ranks, activations that are computed again."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.checkpoint import checkpoint

from kronos.model.layers import TransformerBlock


def shard(objective: nn.Module, device: torch.device) -> nn.Module:
    """FSDP2: each process keeps a part of every weight, and of its gradient and optimizer state.

    A block's weights are put together when the block is computed, and let go after it.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in objective.modules():
        if isinstance(module, TransformerBlock):
            fully_shard(module, mesh=mesh)
    return fully_shard(objective, mesh=mesh)  # type: ignore[return-value]


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from its shards, where it is divided; every process has to ask for it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def divided_like(tensor: Tensor, other: Tensor) -> Tensor:
    """This process's shard of a whole tensor, where ``other`` is divided; else the tensor, on the other's device."""
    if not hasattr(other, "full_tensor"):
        return tensor.to(other.device)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(other, DTensor)
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)


def recompute_blocks(module: nn.Module) -> None:
    """Activation checkpointing: a block's activations are computed again for its gradient instead of being kept.

    The memory of a step no longer grows with what happens inside the blocks, for a third more arithmetic.
    """
    for block in module.modules():
        if isinstance(block, TransformerBlock):
            # in place of the method, so that names, and with them checkpoints, stay as they are
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


class _MeanOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _mean(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # every rank's loss holds the mean, and the ranks' gradients are averaged afterwards
        return _mean(gradients[0])


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean over all processes, with its gradient."""
    return _MeanOverRanks.apply(value)  # type: ignore[no-any-return, no-untyped-call]


def _mean(value: Tensor) -> Tensor:
    summed = value.detach().clone()
    dist.all_reduce(summed)
    return summed / dist.get_world_size()
