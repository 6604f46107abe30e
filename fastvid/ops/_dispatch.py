"""Which implementation of an op runs, and the library the ops are registered in."""

import importlib
import importlib.util
import os
import re
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import is_grad_enabled
from torch._C import _dispatch_keys as _tensor_keys
from torch._C import _dispatch_tls_local_include_set as _thread_keys
from torch._C import _has_torch_function
from torch.autograd import _profiler_enabled
from torch.compiler import is_dynamo_compiling

from fastvid import _native

Backend = Literal["auto", "reference", "native", "triton"]
BACKENDS = ("auto", "reference", "native", "triton")

# Kept alive for the life of the process: registrations vanish with their Library.
LIBRARY = torch.library.Library("fastvid", "FRAGMENT")

HAS_TRITON = importlib.util.find_spec("triton") is not None
# Triton's interpreter runs the kernels on CPU tensors, slowly, to test them. Triton looks at this when it is imported.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

# Ops with a CUDA kernel in the native core; the others have Triton only, because it is as fast.
CUDA_OPS = frozenset({"foveated_glimpse", "multiblock_mask"})

_CPU = torch.device("cpu")
_OLDEST = (8, 0)  # bfloat16 arithmetic, and what the kernels are compiled for

_warned: set[str] = set()

# What the dispatcher looks at when nothing stands between a call and a CPU kernel: the thread's keys, in and outside
# inference mode, and those of a tensor made in and outside it. Modes, functorch, tracers and wrappers add keys, and so
# do lazy negation and conjugation; keys that an op has no kernel for, autocast's, are passed through.
_Keys, _Key = torch._C.DispatchKeySet, torch._C.DispatchKey
_THREAD = _Keys(_Key.BackendSelect)
_TENSOR = _Keys(_Key.CPU).add(_Key.AutocastCPU)
_PLAIN_THREAD = frozenset({_THREAD.raw_repr(), _THREAD.add(_Key.ADInplaceOrView).raw_repr()})
_PLAIN_TENSOR = frozenset(
    {_TENSOR.raw_repr(), _TENSOR.add(_Key.ADInplaceOrView).add(_Key.AutogradCPU).raw_repr()}  # `add` returns a new set
)


def register(
    schema: str, *, fake: Callable, cpu: Callable, cuda: Callable | None = None, triton: str
) -> Callable[..., Any]:
    """Defines ``fastvid::<schema>`` with its fake and its implementations; returns the function to call it by.

    The schema's last argument is ``str backend``, as :func:`choose` gave it.

    Args:
        schema: ``name(arguments) -> results``.
        fake: shapes and dtypes of the results.
        cpu: the native CPU implementation, and the reference's where that runs inside the op.
        cuda: the native CUDA implementation, likewise.
        triton: the module whose function ``name`` launches the Triton kernels. It is imported by the first call: Triton
            takes long to import, and need not be there.
    """
    name = schema.split("(", 1)[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.register_fake(f"fastvid::{name}", fake, lib=LIBRARY)
    launch: Callable | None = None

    def run_triton(*args):
        nonlocal launch
        if launch is None:
            launch = getattr(importlib.import_module(triton), name)
        return launch(*args)

    def on_cpu(*args):
        return run_triton(*args) if args[-1] == "triton" else cpu(*args)

    def on_cuda(*args):
        with torch.cuda.device_of(args[0]):  # kernels are launched on the current device
            return run_triton(*args) if cuda is None or args[-1] == "triton" else cuda(*args)

    LIBRARY.impl(name, on_cpu, "CPU")
    LIBRARY.impl(name, on_cuda, "CUDA")
    return _shortcut(getattr(torch.ops.fastvid, name).default, cpu)


def _shortcut(overload: torch._ops.OpOverload, cpu: Callable) -> Callable[..., Any]:
    """``overload``, but straight to its CPU implementation where the dispatcher would do nothing else.

    Python's way through the dispatcher costs more than all else in a small call. It is left out when nobody can tell:
    no compiler or tracer, mode, transform or profiler is active, and all tensors are plain ones on the CPU that
    autograd does not record.
    """
    tensors = [i for i, argument in enumerate(overload._schema.arguments) if "Tensor" in str(argument.type)]

    def call(*args):
        if (
            args[-1] == "triton"
            or is_dynamo_compiling()
            or _has_torch_function(args)  # modes too
            or _profiler_enabled()
            or _thread_keys().raw_repr() not in _PLAIN_THREAD
        ):
            return overload(*args)
        for i in tensors:
            x = args[i]
            if x is None:
                continue
            if not is_plain(x) or (x.requires_grad and is_grad_enabled()):
                return overload(*args)
        return cpu(*args)

    return call


def is_plain(x: torch.Tensor) -> bool:
    """True for a tensor that is memory of the CPU and nothing else: no subclass with keys, fake or batched tensor."""
    return _tensor_keys(x).raw_repr() in _PLAIN_TENSOR


def choose(op: str, device: torch.device, backend: Backend) -> Backend:
    """The implementation to run: ``"reference"``, ``"native"`` or ``"triton"``.

    Raises:
        ValueError: ``backend`` is not one of :data:`BACKENDS`.
        RuntimeError: ``backend`` names an implementation that cannot run here; the message says why.
    """
    if backend == "reference":
        return backend
    if device == _CPU and backend in ("auto", "native") and _native.CORE is not None:
        return "native"  # the most frequent case, first
    return _choose(op, device.type, device.index, backend)


def _choose(op: str, device_type: str, index: int | None, backend: str) -> Backend:
    if backend not in BACKENDS:
        raise ValueError(f"{op}: backend must be one of {', '.join(BACKENDS)}; got {backend!r}")
    capability = torch.cuda.get_device_capability(index) if device_type == "cuda" else None
    no_native, no_triton = why_no_native(op, device_type, capability), why_no_triton(device_type, capability)
    if backend == "native" and no_native:
        raise RuntimeError(f"{op}: no native kernel for {device_type} tensors: {no_native}")
    if backend == "triton" and no_triton:
        raise RuntimeError(f"{op}: no Triton kernel for {device_type} tensors: {no_triton}")
    if backend != "auto":
        return backend  # type: ignore[return-value]
    if not no_native:
        return "native"
    if device_type == "cuda" and not no_triton:
        if op in CUDA_OPS:
            _warn_once(f"{op} runs its Triton kernel on cuda: {no_native}")
        return "triton"
    _warn_once(f"fastvid ops run as plain PyTorch on {device_type}: {no_triton if capability else no_native}")
    return "reference"


# Its answer is the same for the life of a process, so a compiled graph may hold it as a constant. This is what
# torch.compiler.assume_constant_result does, which would import torch._dynamo: seconds, for those who never compile.
_choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


def why_no_native(op: str, device_type: str, capability: tuple[int, int] | None) -> str | None:
    """None when the native core has a kernel that runs on this device, or the reason why not."""
    if _native.CORE is None:
        return _native.MISSING_REASON
    if device_type == "cpu":
        return None
    if capability is None:
        return f"there are kernels for cpu and cuda, not for {device_type}"
    if op not in CUDA_OPS:
        return f"on GPUs {op} is a Triton kernel"
    if not _native.HAS_CUDA_KERNELS:
        return "fastvid was built without nvcc"
    return why_no_image(_native.BUILD_INFO["cuda_archs"], capability)


def why_no_triton(device_type: str, capability: tuple[int, int] | None) -> str | None:
    """None when the Triton kernels run on this device, or the reason why not."""
    if not HAS_TRITON:
        return "triton is not installed"
    if capability is not None:
        return None if capability >= _OLDEST else f"it needs sm_80 or newer, and this GPU is sm_{_sm(capability)}"
    if device_type != "cpu":
        return f"there are kernels for cuda, not for {device_type}"
    return None if INTERPRETED else "it needs a GPU, or Triton's interpreter (TRITON_INTERPRET=1 in the environment)"


def why_no_image(archs: str, capability: tuple[int, int]) -> str | None:
    """None when kernels built for ``archs`` (CMake's list, ``"80-real 120"``) load on a GPU, or the reason why not.

    Machine code runs on the same major version from its minor version on; PTX, which an arch without ``-real`` brings
    along, on anything newer.
    """
    for number, kind in re.findall(r"(\d+)[af]?(-real|-virtual)?", archs):
        built = divmod(int(number), 10)
        has_code, has_ptx = kind != "-virtual", kind != "-real"
        if (has_code and built[0] == capability[0] and built <= capability) or (has_ptx and built <= capability):
            return None
    return f"fastvid's CUDA kernels were built for {archs}, and there is no kernel image for sm_{_sm(capability)}"


def _sm(capability: tuple[int, int]) -> str:
    return f"{capability[0]}{capability[1]}"


def _warn_once(reason: str) -> None:
    if reason not in _warned:
        _warned.add(reason)
        warnings.warn(reason, stacklevel=5)


def kernel_dtype(op: str, backend: Backend, name: str, tensor: torch.Tensor) -> bool:
    """False when a tensor's dtype (float64, say) is one the kernels leave to the reference.

    Raises:
        TypeError: ``backend``, as the user gave it, insists on a kernel.
    """
    if tensor.dtype in _native.DTYPE_CODES:
        return True
    if backend not in ("auto", "reference"):
        raise TypeError(f"{op}: {name} is {tensor.dtype}; the kernel takes float32, bfloat16 or float16")
    return False


def kernel_writes(op: str, backend: Backend, dtype: torch.dtype) -> bool:
    """False when a result's dtype is one the kernels leave to the reference.

    Raises:
        TypeError: ``backend``, as the user gave it, insists on a kernel.
    """
    if dtype not in _native.DTYPE_CODES and backend in ("native", "triton"):
        raise TypeError(f"{op}: the kernel writes float32, bfloat16 or float16, not {dtype}")
    return dtype in _native.DTYPE_CODES
