"""gather_tokens: schemas, fakes, CPU implementations, autograd, public function."""

from collections.abc import Callable

import torch

from fastvid import _native
from fastvid.ops import _checks
from fastvid.ops._autograd import wants_grad
from fastvid.ops._dispatch import Backend, choose, register
from fastvid.ops._layout import rows_contiguous
from fastvid.ops.gather_tokens import reference

_NAME = "gather_tokens"


def empty_gathered(x, index, backend):
    """Allocate the output [B, K, D]."""
    return x.new_empty((x.shape[0], index.shape[1], x.shape[2]))


def empty_scattered(grad, index, tokens, backend):
    """Allocate the gradient [B, tokens, D]."""
    return grad.new_empty((grad.shape[0], tokens, grad.shape[2]))


def _layout(x: torch.Tensor) -> tuple[torch.Tensor, int, int, int]:
    """Return x with contiguous rows, and its batch stride, row stride and row size in bytes."""
    x = rows_contiguous(x)
    size, (batch, row, _) = x.element_size(), x.stride()
    return x, batch * size, row * size, x.shape[2] * size


def _gather_cpu(x, index, backend):
    out = empty_gathered(x, index, backend)
    (x, batch, row, width), index = _layout(x), index.contiguous()
    bad = _native.CORE.gather_tokens(
        x.data_ptr(), batch, row, index.data_ptr(), out.data_ptr(), x.shape[0], x.shape[1], index.shape[1], width,
        torch.get_num_threads(),
    )  # fmt: skip
    if bad >= 0:
        raise _checks.index_error(_NAME, "index", index, bad, x.shape[1])
    return out


def _scatter_cpu(grad, index, tokens, backend):
    out = empty_scattered(grad, index, tokens, backend)
    (grad, batch, row, width), index = _layout(grad), index.contiguous()
    bad, repeated = _native.CORE.scatter_tokens(
        grad.data_ptr(), batch, row, index.data_ptr(), out.data_ptr(), grad.shape[0], tokens, index.shape[1], width,
        torch.get_num_threads(),
    )  # fmt: skip
    if bad >= 0:
        raise _checks.index_error(_NAME, "index", index, bad, tokens)
    if repeated >= 0:
        value = int(index.reshape(-1)[repeated])
        raise ValueError(
            f"{_NAME}: index[{repeated // index.shape[1]}] holds {value} twice; a row's indices must differ"
        )
    return out


def _gather_context(ctx, inputs, output):
    x, index, ctx.backend = inputs
    ctx.tokens = x.shape[1]
    ctx.save_for_backward(index)


def _gather_backward(ctx, grad):
    (index,) = ctx.saved_tensors
    return _scatter(grad, index, ctx.tokens, ctx.backend), None, None


def _scatter_context(ctx, inputs, output):
    _, index, _, ctx.backend = inputs
    ctx.save_for_backward(index)


def _scatter_backward(ctx, grad):
    (index,) = ctx.saved_tensors
    return _gather(grad, index, ctx.backend), None, None, None


# Gather and scatter are linear and each other's adjoint: derivatives of every order are these two.
_gather: Callable[..., torch.Tensor] = register(
    "gather_tokens(Tensor x, Tensor index, str backend) -> Tensor",
    fake=empty_gathered,
    cpu=_gather_cpu,
    triton="fastvid.ops.gather_tokens.triton",
    setup_context=_gather_context,
    backward=_gather_backward,
)
_scatter: Callable[..., torch.Tensor] = register(
    "scatter_tokens(Tensor grad, Tensor index, SymInt tokens, str backend) -> Tensor",
    fake=empty_scattered,
    cpu=_scatter_cpu,
    triton="fastvid.ops.gather_tokens.triton",
    setup_context=_scatter_context,
    backward=_scatter_backward,
)


def gather_tokens(x: torch.Tensor, index: torch.Tensor, *, backend: Backend = "auto") -> torch.Tensor:
    """Pick tokens per sample: ``out[b, k] = x[b, index[b, k]]``.

    The gradient writes every row of ``x``'s gradient once, the picked ones and zeros elsewhere; no atomics, and the
    same bits every time. It relies on the indices of a row being different.

    Args:
        x: [B, N, D], any dtype; rows that are not contiguous are copied first. Differentiable, any number of times.
        index: int64 [B, K], values in [0, N), each at most once per row.
        backend: ``"auto"``, ``"reference"``, ``"native"`` or ``"triton"``.

    Returns:
        [B, K, D] in x's dtype.

    Raises:
        TypeError: x is not a tensor; index is not an int64 tensor.
        ValueError: shapes that do not fit; in the backward pass, an index that repeats within a row (checked on CPU).
        IndexError: an index outside [0, N) (checked on CPU; the reference raises RuntimeError, and
            on a GPU, which the call does not wait for, the result has NaN rows (-1 for integers)).

    Example:
        >>> z_visible = gather_tokens(z, visible)
    """
    _checks.tensors(_NAME, x=x, index=index)
    if x.ndim != 3 or index.ndim != 2 or x.shape[0] != index.shape[0]:
        raise ValueError(
            f"{_NAME}: expected x [B, N, D] and index [B, K]; got {tuple(x.shape)} and {tuple(index.shape)}"
        )
    _checks.index_dtype(_NAME, "index", index)
    if x.device != index.device:
        raise _checks.devices_error(_NAME, x=x, index=index)
    kernel = choose(_NAME, x.device, backend)
    if kernel == "reference":
        return reference.gather_tokens(x, index)
    wants_grad(_NAME, x)  # or raises
    return _gather(x, index, kernel)
