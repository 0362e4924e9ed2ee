"""Several processes under torchrun: where this one stands, and tensors that all of them hold together.

Everything here does nothing of its own when there is a single process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from common.errors import UserError


@dataclass(frozen=True)
class Place:
    """Where this process stands in a distributed run."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every process has come here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Place]:
    """This process's place: alone, or one of those that torchrun started (gloo on CPU, NCCL on CUDA).

    Raises UserError for more processes than GPUs.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        if device.type == "cuda" and device.index is not None:  # streams and graphs are made on the current device
            torch.cuda.set_device(device)
        yield Place(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if device.index is not None and device.index >= (count := torch.cuda.device_count()):
            raise UserError(f"more processes than the {count} GPUs of this machine: torchrun --nproc_per_node={count}.")
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Place(device, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def gathered(local: Tensor, place: Place) -> Tensor:
    """The `(B, ...)` tensors of all processes, in the order of their ranks, as `(world * B, ...)`; without gradient."""
    if place.world == 1:
        return local
    parts = [torch.empty_like(local) for _ in range(place.world)]
    dist.all_gather(parts, local.contiguous())
    return torch.cat(parts)


def gathered_with_gradient(local: Tensor, place: Place) -> Tensor:
    """As `gathered`; backwards, each process gets for its part the gradients that all processes found for it, summed.

    Times the number of processes: DistributedDataParallel goes on to average over them, and a loss that is a mean over
    all faces has been averaged already.
    """
    return local if place.world == 1 else _Gather.apply(local, place)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor, place: Place) -> Tensor:
        ctx.place, ctx.length = place, len(local)
        return gathered(local, place)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = summed(gradients[0].clone(), ctx.place)
        start = ctx.place.rank * ctx.length
        return total[start : start + ctx.length] * ctx.place.world, None


def summed(value: Tensor, place: Place) -> Tensor:
    """The sum of `value` over all processes, in place."""
    if place.world > 1:
        dist.all_reduce(value)
    return value


def highest(value: Tensor, place: Place) -> Tensor:
    """The elementwise maximum of `value` over all processes, in place."""
    if place.world > 1:
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value
