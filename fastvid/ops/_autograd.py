"""When a gradient is wanted, and which derivatives are refused."""

from collections.abc import Callable

import torch
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling


def wants_grad(op: str, *tensors: torch.Tensor | None) -> bool:
    """True when a call on these is recorded; otherwise the op is called without an ``autograd.Function`` around it.

    Raises:
        RuntimeError: forward-mode AD or a transform of torch.func wants the derivative, which no kernel has.
    """
    if forward_ad._current_level >= 0 and _has_tangent(tensors):
        raise RuntimeError(f"{op}: the kernel has no forward-mode derivative; use backend='reference' for one")
    for x in tensors:
        if x is not None and x.requires_grad:
            if not torch.is_grad_enabled():
                return False
            if not is_dynamo_compiling() and torch._C._are_functorch_transforms_active():
                raise RuntimeError(
                    f"{op}: torch.func cannot differentiate the kernel; use torch.autograd, or backend='reference'"
                )
            return True
    return False


def _has_tangent(tensors: tuple[torch.Tensor | None, ...]) -> bool:
    return any(x is not None and forward_ad.unpack_dual(x).tangent is not None for x in tensors)


class _Once(torch.autograd.Function):
    """Gradients as a function of what they depend on, which raises when it is differentiated."""

    @staticmethod
    def forward(ctx, op, compute, *inputs):
        ctx.op = op
        return tuple(compute())

    @staticmethod
    def backward(ctx, *grads):
        raise second_derivative_error(ctx.op)


def differentiable_once(
    op: str, compute: Callable[[], tuple[torch.Tensor | None, ...]], *inputs: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    """Call ``compute`` for the gradients in a backward pass that has no derivative itself.

    Where that pass is being recorded (``create_graph``), the gradients raise when they are differentiated. ``inputs``
    must be all differentiable tensors that they depend on: autograd skips what does not lead to the tensors asked
    about, so an error that hung on any other tensor would be skipped, and the gradients would count as constant.
    """
    return _Once.apply(op, compute, *inputs) if torch.is_grad_enabled() else compute()


def second_derivative_error(op: str) -> RuntimeError:
    """The error for a derivative of a gradient."""
    return RuntimeError(f"{op}: the kernel has no second derivative; use backend='reference' for one")
