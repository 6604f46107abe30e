"""masked_latent_loss: schema, fake, CPU implementation, autograd, public function."""

from typing import Literal

import torch

from fastvid import _native
from fastvid.ops import _checks
from fastvid.ops._autograd import refuse_second_derivative
from fastvid.ops._dispatch import Backend, choose, kernel_dtypes, register
from fastvid.ops.masked_latent_loss import reference

Kind = Literal["mse", "l1", "smooth_l1", "cosine"]
KINDS = ("mse", "l1", "smooth_l1", "cosine")

# The gradient is computed with the loss, while both rows are in cache, and is what is saved for the backward pass
# instead of pred and target. `grad` is empty when it is not asked for.
_SCHEMA = (
    "masked_latent_loss(Tensor pred, Tensor target, Tensor masked, str kind, bool normalize_target, bool with_grad, "
    "str backend) -> (Tensor loss, Tensor grad)"
)


def _outputs(pred: torch.Tensor, with_grad: bool) -> tuple[torch.Tensor, torch.Tensor]:
    loss = pred.new_empty((), dtype=torch.float32)
    return loss, pred.new_empty(pred.shape if with_grad else (0,))


def _fake(pred, target, masked, kind, normalize_target, with_grad, backend):
    return _outputs(pred, with_grad)


def _mean_scale(pred: torch.Tensor, kind: str) -> float:
    """One over the number of terms in the mean: elements, or tokens for the cosine."""
    rows = pred.shape[0] * pred.shape[1]
    return 1.0 / (rows if kind == "cosine" else rows * pred.shape[2])


def _grad_is_unscaled(pred: torch.Tensor) -> bool:
    # d(mean)/d(pred) is about 1 / (B M D), which underflows in float16: there the gradient of the sum is stored and
    # the factor is applied in the backward pass, together with the loss scale it was invented for.
    return pred.dtype == torch.float16


def _rows_contiguous(x: torch.Tensor) -> torch.Tensor:
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _cpu(pred, target, masked, kind, normalize_target, with_grad, backend):
    loss, grad = _outputs(pred, with_grad)
    if pred.numel() == 0:
        return loss.zero_(), grad
    pred, target, masked = _rows_contiguous(pred), _rows_contiguous(target), masked.contiguous()
    (B, M, D), N = pred.shape, target.shape[1]
    mean_scale = _mean_scale(pred, kind)
    bad = _native.CORE.masked_latent_loss(
        pred.data_ptr(), _native.DTYPE_CODES[pred.dtype], pred.stride(0), pred.stride(1),
        target.data_ptr(), _native.DTYPE_CODES[target.dtype], target.stride(0), target.stride(1),
        masked.data_ptr(), loss.data_ptr(), grad.data_ptr() if with_grad else 0,
        B, M, N, D, KINDS.index(kind), normalize_target,
        mean_scale, 1.0 if _grad_is_unscaled(pred) else mean_scale, torch.get_num_threads(),
    )  # fmt: skip
    if bad >= 0:
        raise _checks.index_error("masked_latent_loss", "masked", masked, bad, N)
    return loss, grad


_op = register(_SCHEMA, fake=_fake, cpu=_cpu, triton="fastvid.ops.masked_latent_loss.triton")


class _MaskedLatentLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pred, target, masked, kind, normalize_target, backend):
        loss, grad = _op(pred, target, masked, kind, normalize_target, ctx.needs_input_grad[0], backend)
        ctx.save_for_backward(grad)
        ctx.factor = _mean_scale(pred, kind) if _grad_is_unscaled(pred) and pred.numel() else 1.0
        return loss

    @staticmethod
    def backward(ctx, grad_loss):
        (grad,) = ctx.saved_tensors
        with torch.no_grad():
            scale = grad_loss * ctx.factor
            # On a CPU looking at the scale is free, and `loss.backward()` gives exactly 1: no pass over the gradient.
            if torch.compiler.is_compiling() or scale.device.type != "cpu" or scale.item() != 1.0:
                grad = (grad.float() * scale).to(grad.dtype)  # a scale near 1e-7 is no number in float16
        return refuse_second_derivative("masked_latent_loss", grad), None, None, None, None, None


def masked_latent_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    masked: torch.Tensor,
    *,
    kind: Kind = "mse",
    normalize_target: bool = False,
    backend: Backend = "auto",
) -> torch.Tensor:
    """Mean loss between predicted latents and the targets at the masked tokens.

    ``mean over b, m, d of l(pred[b, m, d] - y[b, m, d])`` with ``y[b, m] = target[b, masked[b, m]]``, after LayerNorm
    without affine parameters (eps 1e-5) when ``normalize_target``. ``l`` is the square (``"mse"``), the absolute value
    (``"l1"``) or :func:`torch.nn.functional.smooth_l1_loss` with beta 1 (``"smooth_l1"``); ``"cosine"`` is the mean
    over b, m of ``1 - cos(pred, y)``. The gather, the normalisation, the loss and its gradient are one pass over the
    inputs, in float32; the result does not depend on the number of threads.

    Args:
        pred: [B, M, D] float32, bfloat16 or float16 (float64 runs the reference). Differentiable, once.
        target: [B, N, D], of any of these dtypes. Must not require grad: detach the teacher's output.
        masked: int64 [B, M], values in [0, N).
        kind: which loss.
        normalize_target: apply LayerNorm to each target token, as V-JEPA does.
        backend: ``"auto"``, ``"reference"``, ``"native"`` or ``"triton"``.

    Returns:
        Scalar float32. With no masked tokens it is 0.

    Raises:
        TypeError: ``masked`` is not int64; mixed float64 and narrower inputs.
        ValueError: shapes that do not fit; ``target`` requires grad; unknown ``kind``.
        IndexError: a masked index outside [0, N) (checked on CPU; the reference raises RuntimeError).

    Example:
        >>> loss = masked_latent_loss(predictor(z), teacher(clip).detach(), masked, kind="l1", normalize_target=True)
    """
    _check(pred, target, masked, kind)
    kernel = choose("masked_latent_loss", pred.device, backend)
    if kernel == "reference" or not kernel_dtypes("masked_latent_loss", backend, pred=pred, target=target):
        return reference.masked_latent_loss(pred, target, masked, kind, normalize_target)
    return _MaskedLatentLoss.apply(pred, target, masked, kind, normalize_target, kernel)


def masked_mse(
    pred: torch.Tensor,
    target: torch.Tensor,
    masked: torch.Tensor,
    *,
    normalize_target: bool = False,
    backend: Backend = "auto",
) -> torch.Tensor:
    """:func:`masked_latent_loss` with ``kind="mse"``."""
    return masked_latent_loss(pred, target, masked, kind="mse", normalize_target=normalize_target, backend=backend)


def _check(pred: torch.Tensor, target: torch.Tensor, masked: torch.Tensor, kind: str) -> None:
    name = "masked_latent_loss"
    if kind not in KINDS:
        raise ValueError(f"{name}: kind must be one of {', '.join(KINDS)}; got {kind!r}")
    if pred.ndim != 3 or target.ndim != 3 or masked.ndim != 2:
        raise ValueError(
            f"{name}: expected pred [B, M, D], target [B, N, D] and masked [B, M]; got {tuple(pred.shape)}, "
            f"{tuple(target.shape)} and {tuple(masked.shape)}"
        )
    if pred.shape[:2] != masked.shape or pred.shape[0] != target.shape[0] or pred.shape[2] != target.shape[2]:
        raise ValueError(
            f"{name}: pred {tuple(pred.shape)}, target {tuple(target.shape)} and masked {tuple(masked.shape)} do not "
            "fit as [B, M, D], [B, N, D] and [B, M]"
        )
    _checks.index_dtype(name, "masked", masked)
    if not pred.is_floating_point() or not target.is_floating_point():
        raise TypeError(f"{name}: pred and target must be floating point; got {pred.dtype} and {target.dtype}")
    if (pred.dtype == torch.float64) != (target.dtype == torch.float64):
        raise TypeError(f"{name}: float64 does not mix with other dtypes; got {pred.dtype} and {target.dtype}")
    if target.requires_grad:
        raise ValueError(f"{name}: target requires grad, but only pred gets a gradient; pass target.detach()")
    _checks.same_device(name, pred=pred, target=target, masked=masked)
