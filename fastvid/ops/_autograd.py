"""When a gradient is wanted, and the refusal of second derivatives."""

import torch
from torch.autograd import forward_ad


def wants_grad(*tensors: torch.Tensor) -> bool:
    """True when a call on these is recorded; otherwise the op is called without an ``autograd.Function`` around it.

    Forward-mode derivatives count: the function refuses them, and without it they would silently be lost.
    """
    if forward_ad._current_level >= 0:
        return True
    for x in tensors:
        if x.requires_grad:
            return torch.is_grad_enabled()
    return False


class _Refuse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, grad, op, anchor):
        ctx.op = op
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError(f"{ctx.op}: the kernel has no second derivative; use backend='reference' for one")


def refuse_second_derivative(op: str, grad: torch.Tensor) -> torch.Tensor:
    """``grad`` as a result that raises when differentiated again, where a plain one would silently count as constant.

    For use at the end of a backward pass; does nothing unless that pass is itself being recorded (``create_graph``).
    """
    if not torch.is_grad_enabled():
        return grad
    return _Refuse.apply(grad, op, torch.empty((), requires_grad=True))
