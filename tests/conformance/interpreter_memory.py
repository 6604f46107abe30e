"""What memcheck and racecheck say of CUDA kernels, for Triton kernels in its interpreter.

Every load and store is looked at, so what is found is found at the first access, and whatever order programs run in.
"""

import contextlib
from collections.abc import Iterable, Iterator
from unittest import mock

import numpy as np
import torch
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder

_MANY = -1  # programs


class _Tensor:
    """An argument of a launch, and which program (from 1) has loaded and stored each of its elements."""

    def __init__(self, tensor: torch.Tensor):
        self.size = tensor.element_size()
        elements = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        self.start = tensor.data_ptr()
        self.end = self.start + (elements * self.size if tensor.numel() else 0)
        self.loaded = np.zeros(elements, np.int32)
        self.stored = np.zeros(elements, np.int32)


class _Launch:
    """The rules for the programs of one launch, which run in any order and at the same time."""

    def __init__(self, tensors: Iterable[torch.Tensor]):
        self.tensors = [_Tensor(tensor) for tensor in tensors]

    def load(self, addresses: np.ndarray, program: int) -> None:
        for tensor, at in self._elements(addresses, "loads"):
            if np.any(tensor.stored[at] == program):
                raise AssertionError("a program loads what it has stored, and its threads have not waited for it")
            if np.any(tensor.stored[at] != 0):
                raise AssertionError("a program loads what another one of its launch has stored")
            others = (tensor.loaded[at] != 0) & (tensor.loaded[at] != program)
            tensor.loaded[at] = np.where(others, _MANY, program)

    def store(self, addresses: np.ndarray, program: int) -> None:
        if len(np.unique(addresses)) < len(addresses):
            raise AssertionError("two threads of a program store one element")
        for tensor, at in self._elements(addresses, "stores"):
            if np.any(tensor.stored[at] != 0):
                raise AssertionError("an element is stored twice in one launch")
            if np.any((tensor.loaded[at] != 0) & (tensor.loaded[at] != program)):
                raise AssertionError("a program stores what another one of its launch has loaded")
            tensor.stored[at] = program

    def _elements(self, addresses: np.ndarray, does: str) -> Iterator[tuple[_Tensor, np.ndarray]]:
        """Which elements of which tensors; each address must be that of an element."""
        left = np.ones(len(addresses), bool)
        found = []
        for tensor in self.tensors:
            within = left & (addresses >= tensor.start) & (addresses < tensor.end)
            within &= (addresses - tensor.start) % tensor.size == 0
            if within.any():
                found.append((tensor, (addresses[within] - tensor.start) // tensor.size))
                left &= ~within
        if left.any():
            raise AssertionError(f"a program {does} {left.sum()} elements outside of all tensors of its launch")
        yield from found


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Interpreted kernels raise at an access outside of their tensors, at a race, and at anything atomic."""
    launch = _Launch([])
    arguments, load, store = (
        GridExecutor._init_args_hst, InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
    )  # fmt: skip

    def begin(self, args, kwargs):
        nonlocal launch
        host = arguments(self, args, kwargs)
        launch = _Launch(x for x in [*host[0], *host[1].values()] if isinstance(x, torch.Tensor))
        return host

    def program(builder) -> int:
        (x, y, z), (_, ny, nz) = builder.grid_idx, builder.grid_dim
        return 1 + (x * ny + y) * nz + z

    def watched_load(self, pointers, mask, *rest):
        launch.load(_active(pointers, mask), program(self))
        return load(self, pointers, mask, *rest)

    def watched_store(self, pointers, value, mask, *rest):
        launch.store(_active(pointers, mask), program(self))
        return store(self, pointers, value, mask, *rest)

    def atomic(*_):
        raise AssertionError("an atomic operation: sums would depend on the order of programs")

    changes = {
        (GridExecutor, "_init_args_hst"): begin,
        # Tensors of a CPU are their own copies; copying gigabytes onto themselves takes seconds.
        (GridExecutor, "_restore_args_dev"): lambda *_: None,
        (InterpreterBuilder, "create_masked_load"): watched_load,
        (InterpreterBuilder, "create_masked_store"): watched_store,
        (InterpreterBuilder, "create_atomic_rmw"): atomic,
        (InterpreterBuilder, "create_atomic_cas"): atomic,
    }
    with contextlib.ExitStack() as stack:
        for (where, name), changed in changes.items():
            stack.enter_context(mock.patch.object(where, name, changed))
        yield


def _active(pointers, mask) -> np.ndarray:
    """int64 [n]: the addresses that an access touches."""
    addresses, mask = np.broadcast_arrays(pointers.data, mask.data)
    return addresses[mask.astype(bool)].astype(np.int64)
