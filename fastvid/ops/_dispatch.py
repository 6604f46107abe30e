"""The implementation of an op that runs, and the library that the ops are registered in."""

import importlib
import importlib.util
import os
import re
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch

from fastvid import _native
from fastvid.ops._autograd import second_derivative_error

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


def register(
    schema: str,
    *,
    fake: Callable[..., Any],
    cpu: Callable[..., Any],
    cuda: Callable[..., Any] | None = None,
    triton: str,
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Define ``fastvid::<schema>`` with its fake and its implementations, and return the operator to call.

    The schema's last argument is ``str backend``, as :func:`choose` returned it.

    The derivative is registered on the operator, where every tracer finds it. An ``autograd.Function`` around the
    operator would not do: torch.compile would return zero for a derivative of its backward pass.

    Args:
        schema: ``name(arguments) -> results``.
        fake: shapes and dtypes of the results.
        cpu: the native CPU implementation; it also runs the reference where that runs inside the op.
        cuda: the native CUDA implementation, likewise.
        triton: the module whose function ``name`` launches the Triton kernels. It is imported by the first call: Triton
            takes long to import, and may not be installed.
        backward: gradients of the inputs, see :func:`torch.library.register_autograd`. Without it, the derivative of
            the operator raises: for an operator that is itself a backward pass, or has no differentiable inputs.
        setup_context: saves what ``backward`` needs.
    """
    name = schema.split("(", 1)[0]
    public = triton.split(".")[-2]  # the module is in the folder that has the function's name
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.register_fake(f"fastvid::{name}", fake, lib=LIBRARY)
    launch: Callable[..., Any] | None = None

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

    def refuse(ctx, *grads):
        raise second_derivative_error(public)

    torch.library.register_autograd(f"fastvid::{name}", backward or refuse, setup_context=setup_context, lib=LIBRARY)
    overload: Callable[..., Any] = getattr(torch.ops.fastvid, name).default
    return overload


def choose(op: str, device: torch.device, backend: Backend) -> Backend:
    """Return the implementation to run: ``"reference"``, ``"native"`` or ``"triton"``.

    Raises:
        ValueError: ``backend`` is not one of :data:`BACKENDS`.
        RuntimeError: ``backend`` names an implementation that cannot run here; the message says why.
    """
    if backend == "reference":
        return backend
    if device == _CPU and backend in ("auto", "native") and _native.CORE is not None:
        return "native"  # the most frequent case, first
    if torch.compiler.is_compiling():
        from fastvid.ops import _compiled  # only while tracing this line: PyTorch's compiler is imported by now

        constant: Backend = _compiled.choose_for(op, device.type, device.index, backend)
        return constant
    return choose_for(op, device.type, device.index, backend)


def choose_for(op: str, device_type: str, index: int | None, backend: str) -> Backend:
    """Return the answer of :func:`choose` for a device's type and index. It is the same for the life of a process."""
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


def why_no_native(op: str, device_type: str, capability: tuple[int, int] | None) -> str | None:
    """Return None when the native core has a kernel that runs on this device, or else the reason why not."""
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
    """Return None when the Triton kernels run on this device, or else the reason why not."""
    if not HAS_TRITON:
        return "triton is not installed"
    if capability is not None:
        return None if capability >= _OLDEST else f"it needs sm_80 or newer, and this GPU is sm_{_sm(capability)}"
    if device_type != "cpu":
        return f"there are kernels for cuda, not for {device_type}"
    if not INTERPRETED:
        return "it needs a GPU, or Triton's interpreter (TRITON_INTERPRET=1 in the environment)"
    from fastvid.ops import _interpreter  # which imports Triton

    return _interpreter.why_not()


def why_no_image(archs: str, capability: tuple[int, int]) -> str | None:
    """Return None when kernels built for ``archs`` (CMake's list, ``"80-real 120"``) load on a GPU, or else the reason.

    Machine code runs on GPUs of the same major version and the same or a later minor version. PTX, which an arch
    without ``-real`` includes, runs on anything newer.
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
    """Return whether the kernels support a tensor's dtype. They leave the others, such as float64, to the reference.

    Raises:
        TypeError: ``backend``, as the user gave it, insists on a kernel.
    """
    if tensor.dtype in _native.DTYPE_CODES:
        return True
    if backend not in ("auto", "reference"):
        raise TypeError(f"{op}: {name} is {tensor.dtype}; the kernel takes float32, bfloat16 or float16")
    return False


def kernel_writes(op: str, backend: Backend, dtype: torch.dtype) -> bool:
    """Return whether the kernels can write a result of this dtype. They leave the others to the reference.

    Raises:
        TypeError: ``backend``, as the user gave it, insists on a kernel.
    """
    if dtype not in _native.DTYPE_CODES and backend in ("native", "triton"):
        raise TypeError(f"{op}: the kernel writes float32, bfloat16 or float16, not {dtype}")
    return dtype in _native.DTYPE_CODES
