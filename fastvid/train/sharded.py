"""A module sharded over processes by FSDP2 (``torch.distributed.fsdp.fully_shard``)."""

import copy
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from fastvid.train.compile_parts import compile_own_parts
from fastvid.train.distributed import World


class Sharded:
    """A copy of a module whose parameters, gradients and moments are sharded over the processes of a mesh.

    Each block gathers its weights when it is called and frees them afterwards; see :func:`blocks`. The module itself
    stays an ordinary one, and is without weights while its copy trains: evaluations and pictures, which the main
    process makes alone, call it after :meth:`whole` has gathered the weights there.

    Args:
        module: module to train; its weights are those of the main process.
        mesh: processes: of one dimension, or of two, the first of which holds replicas.
        dtype: dtype in which weights are gathered, with gradients reduced in float32; None for their own.
        compile: torch.compile each block. A module with a method ``compile_parts`` compiles itself.
    """

    sharded = True

    def __init__(self, module: nn.Module, mesh: DeviceMesh, *, dtype: torch.dtype | None, compile: bool):
        self._module = module
        # Of outputs that are views: our losses change no output in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor, src=0)  # as DDP does
        # The copy has the module's very parameters, until fully_shard replaces them: no weight is there twice.
        self.trained = copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})
        self.called = self.trained
        # Inputs are left as they are: autocast decides, as without shards, what is computed in which dtype.
        policy = MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=None if dtype is None else torch.float32, cast_forward_inputs=False
        )
        compile_blocks = compile and not compile_own_parts(self.trained)
        for block in blocks(self.trained):
            if compile_blocks:
                block.compile(dynamic=False)
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(self.trained, mesh=mesh, mp_policy=policy)
        self._release()

    def accumulating(self) -> AbstractContextManager[object]:
        # Each micro-batch's gradients are reduced to shards at once: whole ones would take the memory that is saved.
        return nullcontext()

    def clip(self, parameters: Iterable[nn.Parameter], limit: float) -> torch.Tensor:
        return _whole(nn.utils.clip_grad_norm_(parameters, limit or math.inf))

    @contextmanager
    def whole(self, world: World) -> Iterator[None]:
        self._gather(keep=world.is_main)
        try:
            yield
        finally:
            self._release()

    def finish(self) -> None:
        self._gather(keep=True)

    @torch.no_grad()
    def _gather(self, *, keep: bool) -> None:
        own = dict(self._module.named_parameters())
        for name, shard in self.trained.named_parameters():
            weights = _whole(shard)
            if keep:
                own[name].data = weights
        for buffer, trained in zip(self._module.buffers(), self.trained.buffers(), strict=True):
            buffer.copy_(trained)

    def _release(self) -> None:
        for parameter in self._module.parameters():
            parameter.data = parameter.data.new_empty(0)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the repeated parts of a module: the elements of its outermost lists of modules of one class.

    A block gathers its weights when it is called. A module that uses the weights of its blocks without calling them
    says so with an attribute ``whole_in_step = True``: its weights are gathered at the start of the step, and kept.
    """
    for child in module.children():
        if getattr(child, "whole_in_step", False):
            continue
        if isinstance(child, nn.ModuleList | nn.Sequential) and len({type(element) for element in child}) == 1:
            yield from (element for element in child if next(element.parameters(), None) is not None)
        else:
            yield from blocks(child)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor whole and detached; of a sharded one all processes gather the shards together."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
