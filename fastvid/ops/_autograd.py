"""Checks of whether a call needs a gradient, and refusals of derivatives that an op does not have."""

import torch
from torch.autograd import forward_ad
from torch.func import debug_unwrap


def wants_grad(op: str, *tensors: torch.Tensor | None) -> bool:
    """Return True when a call on these tensors is recorded for a backward pass.

    Raises:
        RuntimeError: forward-mode AD or a transform of torch.func wants the derivative, which no kernel has.
    """
    if any(x is not None and forward_ad.unpack_dual(x).tangent is not None for x in tensors):
        raise RuntimeError(f"{op}: the kernel has no forward-mode derivative; use backend='reference' for one")
    if not torch.is_grad_enabled() or not any(x is not None and x.requires_grad for x in tensors):
        return False
    # In code that is being compiled the operator itself refuses.
    if not torch.compiler.is_compiling() and any(x is not None and _is_wrapped(x) for x in tensors):
        raise RuntimeError(
            f"{op}: torch.func cannot differentiate the kernel; use torch.autograd, or backend='reference'"
        )
    return True


def readable_value(x: torch.Tensor) -> int | float | None:
    """Return the value of a scalar CPU tensor, or None where it has no value yet: it is traced, fake or batched."""
    if type(x) is not torch.Tensor or not x.is_cpu or torch.compiler.is_compiling():
        return None
    try:
        return x.item()
    except RuntimeError:  # a tracer or vmap: no other public property of a tensor shows them
        return None


def _is_wrapped(x: torch.Tensor) -> bool:
    """Return True for a tensor that a transform of torch.func varies."""
    return debug_unwrap(x, recurse=False) is not x


def second_derivative_error(op: str) -> RuntimeError:
    """Return the error for a derivative of a gradient."""
    return RuntimeError(f"{op}: the kernel has no second derivative; use backend='reference' for one")
