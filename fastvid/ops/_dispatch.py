"""Which implementation of an op runs, and the library the ops are registered in."""

import warnings
from typing import Literal

import torch

from fastvid import _native

Backend = Literal["auto", "reference", "native"]
BACKENDS = ("auto", "reference", "native")

# Kept alive for the life of the process: registrations vanish with their Library.
LIBRARY = torch.library.Library("fastvid", "FRAGMENT")

# Ops with a CUDA kernel in the native core.
_CUDA_OPS = frozenset({"multiblock_mask"})

_warned: set[str] = set()


def register(schema: str, *, fake, cpu=None, cuda=None) -> torch._ops.OpOverload:
    """Defines ``fastvid::<schema>`` with its fake and per-device implementations; returns the callable overload."""
    name = schema.split("(", 1)[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.register_fake(f"fastvid::{name}", fake, lib=LIBRARY)
    for key, implementation in (("CPU", cpu), ("CUDA", cuda)):
        if implementation is not None:
            LIBRARY.impl(name, implementation, key)
    return getattr(torch.ops.fastvid, name).default


def use_kernel(op: str, device: torch.device, backend: Backend) -> bool:
    """True when the op's kernel is to be called, False for the reference.

    Raises:
        ValueError: ``backend`` is not one of :data:`BACKENDS`.
        RuntimeError: ``backend="native"`` and there is no such kernel here; the message says why.
    """
    if backend not in BACKENDS:
        raise ValueError(f"{op}: backend must be one of {', '.join(BACKENDS)}; got {backend!r}")
    if backend == "reference":
        return False
    reason = _why_no_kernel(op, device)
    if reason is None:
        return True
    if backend == "native":
        raise RuntimeError(f"{op}: no native kernel for {device.type} tensors: {reason}")
    if not torch.compiler.is_compiling() and reason not in _warned:
        _warned.add(reason)
        warnings.warn(f"fastvid ops run as plain PyTorch on {device.type}: {reason}", stacklevel=3)
    return False


def _why_no_kernel(op: str, device: torch.device) -> str | None:
    if _native.CORE is None:
        return _native.MISSING_REASON
    if device.type == "cpu":
        return None
    if device.type != "cuda":
        return f"there are kernels for cpu and cuda, not for {device.type}"
    if op not in _CUDA_OPS:
        return f"this version has no CUDA kernel for {op}"
    if not _native.HAS_CUDA_KERNELS:
        return "fastvid was built without nvcc"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < (8, 0):
        return f"the kernels are built for sm_80 and newer, and this GPU is sm_{major}{minor}"
    return None


def kernel_dtypes(op: str, backend: Backend, **tensors: torch.Tensor) -> bool:
    """False when a tensor's dtype (float64, say) is one the kernels leave to the reference."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _native.DTYPE_CODES:
            if backend == "native":
                raise TypeError(f"{op}: {name} is {tensor.dtype}; the kernel takes float32, bfloat16 or float16")
            return False
    return True
