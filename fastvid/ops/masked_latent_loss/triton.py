"""Triton kernels of masked_latent_loss: a row of pred and of target is read once, its gradient written once."""

import functools

import torch
import triton
import triton.language as tl

from fastvid.ops._launch import Options, choose_launch, options
from fastvid.ops._layout import rows_contiguous
from fastvid.ops.masked_latent_loss.mean import grad_scale, mean_scale
from fastvid.ops.masked_latent_loss.op import KINDS, empty_outputs
from fastvid.ops.masked_latent_loss.reference import COSINE_EPS, LAYER_NORM_EPS

# A row is held in the registers of one program.
MAX_DIM = 1 << 14

_MSE, _L1, _SMOOTH_L1 = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
_LAYER_NORM_EPS, _COSINE_EPS = tl.constexpr(LAYER_NORM_EPS), tl.constexpr(COSINE_EPS)

# (elements that a program takes at a time, warps), the default first.
_SUM = [(1024, 4), (1024, 8), (4096, 8), (4096, 16), (8192, 16), (8192, 32)]
_SCALE = [(2048, 4), (1024, 4), (4096, 4), (4096, 8), (8192, 8)]
_FEW_ROWS = 8192


@triton.jit
def masked_latent_loss_kernel(
    pred, target, target_scale, masked, weight, grad, row_loss,
    M, N, D, pred_batch, pred_row, target_batch, target_row, grad_scale: tl.float32,
    KIND: tl.constexpr, NORMALIZE: tl.constexpr, WITH_GRAD: tl.constexpr, QUANTIZED: tl.constexpr,
    WEIGHTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Process one masked token: pred [B, M, D], target [B, N, D], masked [B, M] to row_loss [B * M], grad [B, M, D]."""
    row = tl.program_id(0).to(tl.int64)
    b, m = row // M, row % M
    d = tl.arange(0, BLOCK)
    inside = d < D
    n = tl.load(masked + row)
    known = (n >= 0) & (n < N)
    n = tl.where(known, n, 0)
    p = tl.load(pred + b * pred_batch + m * pred_row + d, mask=inside, other=0).to(tl.float32)
    t = tl.load(target + b * target_batch + n * target_row + d, mask=inside, other=0).to(tl.float32)
    if QUANTIZED:
        t = t * tl.load(target_scale + b * N + n).to(tl.float32)
    # An index out of range cannot raise without waiting for the device: the loss is NaN, which shows.
    t = tl.where(inside, tl.where(known, t, float("nan")), 0.0)
    if NORMALIZE:
        mean = tl.sum(t) / D
        centred = tl.where(inside, t - mean, 0.0)
        t = centred / tl.sqrt(tl.sum(centred * centred) / D + _LAYER_NORM_EPS)
    if WEIGHTED:
        token_weight = tl.load(weight + row)
        grad_scale *= token_weight
    diff = p - t
    if KIND == _MSE:
        loss = tl.sum(diff * diff)
        slope = 2.0 * grad_scale * diff
    elif KIND == _L1:
        loss = tl.sum(tl.abs(diff))
        slope = tl.where(diff > 0, grad_scale, tl.where(diff < 0, -grad_scale, 0.0 * diff))
    elif KIND == _SMOOTH_L1:
        size = tl.abs(diff)
        loss = tl.sum(tl.where(size < 1.0, 0.5 * diff * diff, size - 0.5))
        slope = grad_scale * tl.minimum(tl.maximum(diff, -1.0, tl.PropagateNan.ALL), 1.0, tl.PropagateNan.ALL)
    else:
        p_norm, t_norm = tl.sqrt(tl.sum(p * p)), tl.sqrt(tl.sum(t * t))
        free = p_norm > _COSINE_EPS  # below, the clamped norm is a constant
        p_norm, t_norm = tl.maximum(p_norm, _COSINE_EPS), tl.maximum(t_norm, _COSINE_EPS)
        cosine = tl.sum(p * t) / (p_norm * t_norm)
        loss = 1.0 - cosine
        slope = grad_scale * (tl.where(free, cosine / (p_norm * p_norm), 0.0) * p - t / (p_norm * t_norm))
    if WEIGHTED:
        loss *= token_weight
    tl.store(row_loss + row, loss)
    if WITH_GRAD:
        tl.store(grad + row * D + d, slope.to(grad.dtype.element_ty), mask=inside)


@triton.jit
def sum_rows_kernel(row_loss, loss, rows, mean_scale: tl.float32, BLOCK: tl.constexpr):
    """Write loss = mean_scale * sum(row_loss), summed in a fixed order: the same bits every time."""
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, rows, BLOCK):
        i = start + tl.arange(0, BLOCK)
        total += tl.load(row_loss + i, mask=i < rows, other=0.0)
    tl.store(loss, tl.sum(total) * mean_scale)


@triton.jit
def scale_gradient_kernel(grad, upstream, out, size, factor: tl.float32, BLOCK: tl.constexpr):
    """Write out = grad * upstream * factor, where upstream is a scalar on the device."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    scale = tl.load(upstream).to(tl.float32) * factor
    value = tl.load(grad + i, mask=i < size).to(tl.float32) * scale
    tl.store(out + i, value.to(out.dtype.element_ty), mask=i < size)


@functools.cache
def loss_options(width: int, pred_size: int, target_size: int) -> Options:
    """Return the launches for tokens of ``width`` dimensions and their sizes in bytes in pred and target."""
    block = max(128, triton.next_power_of_2(width))
    default = min(max(block // 256, 1), 16)
    others = [warps for warps in (1, 2, 4, 8, 16, 32) if block // 1024 <= warps <= block // 64]
    launches = [{"BLOCK": block, "num_warps": warps} for warps in (default, *others)]
    shape = f"up to {block} dimensions, {pred_size} and {target_size} bytes"
    return options("masked_latent_loss_kernel", shape, launches)


@functools.cache
def sum_options(few: bool) -> Options:
    """Return the launches of the one program that adds up the rows."""
    shape = f"{'up to' if few else 'more than'} {_FEW_ROWS} rows"
    return options("sum_rows_kernel", shape, [{"BLOCK": block, "num_warps": warps} for block, warps in _SUM])


@functools.cache
def scale_options(size: int) -> Options:
    """Return the launches for a gradient with elements of ``size`` bytes."""
    launches = [{"BLOCK": block, "num_warps": warps} for block, warps in _SCALE]
    return options("scale_gradient_kernel", f"{size} bytes", launches)


def masked_latent_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    target_scale: torch.Tensor | None,
    masked: torch.Tensor,
    weight: torch.Tensor | None,
    kind: str,
    normalize_target: bool,
    with_grad: bool,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Map pred [B, M, D], target [B, N, D], masked int64 [B, M] and weight [B, M] or None to a float32 scalar and
    gradient [B, M, D] or empty.

    Besides the outputs it allocates 4 bytes a masked token, for the sums of the rows.

    Raises:
        RuntimeError: more than :data:`MAX_DIM` dimensions.
    """
    loss, grad = empty_outputs(pred, with_grad)
    if pred.numel() == 0:
        return loss.zero_(), grad
    (B, M, D), N = pred.shape, target.shape[1]
    if D > MAX_DIM:
        raise RuntimeError(
            f"masked_latent_loss: the Triton kernel takes tokens of up to {MAX_DIM} dimensions and these have {D}; "
            "use backend='reference'"
        )
    pred, target = rows_contiguous(pred), rows_contiguous(target)
    row_loss = pred.new_empty((B * M,), dtype=torch.float32)
    launch = choose_launch(loss_options(D, pred.element_size(), target.element_size()), pred.device)
    masked_latent_loss_kernel[(B * M,)](
        pred, target, target if target_scale is None else target_scale.contiguous(), masked.contiguous(),
        row_loss if weight is None else weight.contiguous(), grad if with_grad else pred, row_loss,
        M, N, D, pred.stride(0), pred.stride(1), target.stride(0), target.stride(1), grad_scale(pred, kind),
        KIND=KINDS.index(kind), NORMALIZE=normalize_target, WITH_GRAD=with_grad, QUANTIZED=target_scale is not None,
        WEIGHTED=weight is not None, **launch,
    )  # fmt: skip
    launch = choose_launch(sum_options(B * M <= _FEW_ROWS), pred.device)
    sum_rows_kernel[(1,)](row_loss, loss, B * M, mean_scale(pred, kind), **launch)
    return loss, grad


def scale_gradient(grad: torch.Tensor, upstream: torch.Tensor, factor: float, backend: str) -> torch.Tensor:
    """Return ``grad * upstream * factor`` in grad's dtype; upstream is a scalar tensor that the host does not read."""
    grad = grad.contiguous()
    out = grad.new_empty(grad.shape)
    if grad.numel():
        launch = choose_launch(scale_options(grad.element_size()), grad.device)
        programs = triton.cdiv(grad.numel(), launch["BLOCK"])
        scale_gradient_kernel[(programs,)](grad, upstream, out, grad.numel(), factor, **launch)
    return out
