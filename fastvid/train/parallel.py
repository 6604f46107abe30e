"""The module that a run's processes train together: each holds all of it (DDP), or a shard of it (FSDP2)."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fastvid.command import UserError
from fastvid.train.compile_parts import compile_own_parts
from fastvid.train.distributed import World

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class Shared(Protocol):
    """A module that the processes of a run train together.

    Attributes:
        trained: module whose parameters the optimizer updates and checkpoints hold.
        called: module that the loss of a step calls; its backward pass averages the gradients over the processes.
        sharded: whether each process holds a shard of every parameter.
    """

    trained: nn.Module
    called: nn.Module
    sharded: bool

    def accumulating(self) -> AbstractContextManager[object]:
        """Return the context of a micro-batch that is not the last of its update."""
        ...

    def clip(self, parameters: Iterable[nn.Parameter], limit: float) -> torch.Tensor:
        """Scale gradients so that their norm over all parameters is at most ``limit``; return the norm before, a
        scalar. 0 for no limit.
        """
        ...

    def whole(self, world: World) -> AbstractContextManager[object]:
        """Return a context in which the stage's module has all its weights on the main process. All processes enter."""
        ...

    def finish(self) -> None:
        """Give the stage's module all its weights on every process. All processes call this."""
        ...


def share(
    module: nn.Module, world: World, mesh: "DeviceMesh | None", *, dtype: torch.dtype | None, compile: bool
) -> Shared:
    """Share a module among the processes of a run.

    Args:
        module: the same on every process.
        world: this process among its peers.
        mesh: processes to shard over; None where each process holds all of the module.
        dtype: dtype in which sharded weights are gathered; None for their own.
        compile: torch.compile the forward and backward pass. A module with a method ``compile_parts`` compiles itself.
    """
    if mesh is None:
        return Replicated(module, world, compile=compile)
    from fastvid.train.sharded import Sharded  # one process does not wait for its imports

    return Sharded(module, mesh, dtype=dtype, compile=compile)


class Replicated:
    """A module that every process holds whole; with several processes DDP averages their gradients."""

    sharded = False

    def __init__(self, module: nn.Module, world: World, *, compile: bool):
        self.trained = self.called = module
        if compile and not compile_own_parts(module):
            self.called = cast(nn.Module, torch.compile(module, dynamic=False))
        if world.size > 1:
            self.called = DistributedDataParallel(self.called, gradient_as_bucket_view=True)

    def accumulating(self) -> AbstractContextManager[object]:
        # Gradients of micro-batches are summed on each process, and exchanged once.
        return self.called.no_sync() if isinstance(self.called, DistributedDataParallel) else nullcontext()

    def clip(self, parameters: Iterable[nn.Parameter], limit: float) -> torch.Tensor:
        return nn.utils.clip_grad_norm_(parameters, limit or math.inf).detach()

    def whole(self, world: World) -> AbstractContextManager[object]:
        return nullcontext()

    def finish(self) -> None:
        pass


def make_mesh(world: World, parallel: str, shard: int | None) -> "DeviceMesh | None":
    """Return the processes over which FSDP shards; None for DDP, and for one process.

    Args:
        world: this process among its peers.
        parallel: ``"ddp"`` or ``"fsdp"``.
        shard: processes that hold one copy of the weights between them, neighbours in rank; the groups hold replicas
            (HSDP). None for all processes.

    Raises:
        UserError: the processes do not divide into groups of ``shard``.
    """
    if shard is not None and world.size % shard:
        raise UserError(f"--run.shard {shard}: {world.size} processes do not divide into groups of {shard}")
    if parallel != "fsdp" or world.size == 1:
        return None
    from torch.distributed.device_mesh import init_device_mesh

    device = world.device.type
    if shard is None or shard == world.size:
        return init_device_mesh(device, (world.size,), mesh_dim_names=("shard",))
    return init_device_mesh(device, (world.size // shard, shard), mesh_dim_names=("replicate", "shard"))
