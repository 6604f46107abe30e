"""masked_latent_loss: schemas, fakes, CPU implementations, autograd, public functions."""

from collections.abc import Callable
from typing import Literal

import torch

from fastvid import _native
from fastvid.ops import _checks
from fastvid.ops._autograd import readable_value, second_derivative_error, wants_grad
from fastvid.ops._dispatch import Backend, choose, kernel_dtype, register
from fastvid.ops._layout import rows_contiguous
from fastvid.ops.masked_latent_loss import reference
from fastvid.ops.masked_latent_loss.mean import factor_left, grad_scale, mean_scale

_NAME = "masked_latent_loss"
Kind = Literal["mse", "l1", "smooth_l1", "cosine"]
KINDS = ("mse", "l1", "smooth_l1", "cosine")

# The gradient is computed with the loss, while both rows are in cache, and is what is saved for the backward pass
# instead of pred and target. `grad` is empty when it is not requested.
_SCHEMA = (
    "masked_latent_loss(Tensor pred, Tensor target, Tensor? target_scale, Tensor masked, Tensor? weight, str kind, "
    "bool normalize_target, bool with_grad, str backend) -> (Tensor loss, Tensor grad)"
)
_SCALE_SCHEMA = "scale_gradient(Tensor grad, Tensor upstream, float factor, str backend) -> Tensor"
_TRITON = "fastvid.ops.masked_latent_loss.triton"


def empty_outputs(pred: torch.Tensor, with_grad: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Allocate the loss and its gradient, which is empty when it is not requested."""
    loss = pred.new_empty((), dtype=torch.float32)
    return loss, pred.new_empty(pred.shape if with_grad else (0,))


def _fake(pred, target, target_scale, masked, weight, kind, normalize_target, with_grad, backend):
    return empty_outputs(pred, with_grad)


def _cpu(pred, target, target_scale, masked, weight, kind, normalize_target, with_grad, backend):
    loss, grad = empty_outputs(pred, with_grad)
    if pred.numel() == 0:
        return loss.zero_(), grad
    pred, target, masked = rows_contiguous(pred), rows_contiguous(target), masked.contiguous()
    target_code = _native.INT8_CODE if target.dtype == torch.int8 else _native.DTYPE_CODES[target.dtype]
    if target_scale is not None:
        target_scale = target_scale.contiguous()
    if weight is not None:
        weight = weight.contiguous()
    (B, M, D), N = pred.shape, target.shape[1]
    bad = _native.CORE.masked_latent_loss(
        pred.data_ptr(), _native.DTYPE_CODES[pred.dtype], pred.stride(0), pred.stride(1),
        target.data_ptr(), target_code, target.stride(0), target.stride(1),
        0 if target_scale is None else target_scale.data_ptr(),
        masked.data_ptr(), 0 if weight is None else weight.data_ptr(),
        loss.data_ptr(), grad.data_ptr() if with_grad else 0,
        B, M, N, D, KINDS.index(kind), normalize_target,
        mean_scale(pred, kind), grad_scale(pred, kind), torch.get_num_threads(),
    )  # fmt: skip
    if bad >= 0:
        raise _checks.index_error("masked_latent_loss", "masked", masked, bad, N)
    return loss, grad


def _scale_cpu(grad, upstream, factor, backend):
    grad, out = grad.contiguous(), torch.empty_like(grad, memory_format=torch.contiguous_format)
    _native.CORE.scale_gradient(
        grad.data_ptr(), out.data_ptr(), _native.DTYPE_CODES[grad.dtype], grad.numel(), (upstream * factor).item(),
        torch.get_num_threads(),
    )  # fmt: skip
    return out


def _setup_context(ctx, inputs, output):
    pred, _, _, _, _, kind, _, _, ctx.backend = inputs
    ctx.set_materialize_grads(False)
    # Autograd knows that an output depends on pred, although pred is not kept: second derivatives come back here.
    ctx.save_for_backward(output[1])
    ctx.factor = factor_left(pred, kind)


def _backward(ctx, upstream, grad_of_grad):
    if grad_of_grad is not None:
        raise second_derivative_error(_NAME)
    (grad,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # PyTorch's own arithmetic, which has derivatives
        grad = reference.scale_gradient(grad, upstream, ctx.factor)
    # On a CPU reading the scale is free, and `loss.backward()` gives exactly 1: no pass over the gradient.
    elif ctx.factor != 1.0 or readable_value(upstream) != 1.0:
        grad = _scale(grad, upstream, ctx.factor, ctx.backend)
    return grad, None, None, None, None, None, None, None, None


_op: Callable[..., tuple[torch.Tensor, torch.Tensor]] = register(
    _SCHEMA, fake=_fake, cpu=_cpu, triton=_TRITON, setup_context=_setup_context, backward=_backward
)
_scale: Callable[..., torch.Tensor] = register(
    _SCALE_SCHEMA,
    fake=lambda grad, upstream, factor, backend: grad.new_empty(grad.shape),
    cpu=_scale_cpu,
    triton=_TRITON,
)


def masked_latent_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    masked: torch.Tensor,
    *,
    kind: Kind = "mse",
    normalize_target: bool = False,
    target_scale: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    backend: Backend = "auto",
) -> torch.Tensor:
    """Compute the mean loss between predicted latents and the targets at the masked tokens.

    ``mean over b, m, d of l(pred[b, m, d] - y[b, m, d])`` with ``y[b, m] = target[b, masked[b, m]]``, after LayerNorm
    without affine parameters (eps 1e-5) when ``normalize_target``. ``l`` is the square (``"mse"``), the absolute value
    (``"l1"``) or :func:`torch.nn.functional.smooth_l1_loss` with beta 1 (``"smooth_l1"``); ``"cosine"`` is the mean
    over b, m of ``1 - cos(pred, y)``. With ``weight`` it is the weighted mean over the tokens,
    ``sum of weight[b, m] * l[b, m] / sum of weight[b, m]``, where ``l[b, m]`` is the mean over d. The gather, the
    normalisation, the loss and its gradient are one pass over the inputs, in float32; the result does not depend on the
    number of threads.

    Args:
        pred: [B, M, D] float32, bfloat16 or float16 (float64 runs the reference). Differentiable, once.
        target: [B, N, D], of any of these dtypes, or int8 with ``target_scale``. Must not require grad: detach the
            teacher's output.
        masked: int64 [B, M], values in [0, N).
        kind: loss function.
        normalize_target: apply LayerNorm to each target token, as V-JEPA does.
        target_scale: float16 [B, N], for an int8 target: token ``n`` is ``target[b, n] * target_scale[b, n]``, as
            :func:`quantize_tokens` makes it. It is dequantised in the pass, never in memory.
        weight: float32 [B, M] (float64 where pred is), at least 0: how much each token counts. Where all are 0 the loss
            and its gradient are 0. A float16 gradient loses digits where a weight is below 1e-4 of the greatest. Must
            not require grad.
        backend: ``"auto"``, ``"reference"``, ``"native"`` or ``"triton"``.

    Returns:
        Scalar float32. With no masked tokens it is 0.

    Raises:
        TypeError: an argument is not a tensor; ``masked`` is not int64; mixed float64 and narrower inputs; int8 without
            a float16 scale; ``weight`` of another dtype.
        ValueError: shapes that do not fit; ``target``, its scale or ``weight`` requires grad; unknown ``kind``; a
            negative weight (checked on CPU; on a GPU, which the call does not wait for, the loss is NaN).
        IndexError: a masked index outside [0, N) (checked on CPU; the reference raises RuntimeError, and on a GPU the
            loss is NaN).

    Example:
        >>> loss = masked_latent_loss(predictor(z), teacher(clip).detach(), masked, kind="l1", normalize_target=True)
    """
    _check(pred, target, target_scale, masked, kind)
    if weight is not None:
        _check_weight(pred, weight)
    kernel = choose("masked_latent_loss", pred.device, backend)
    narrow = kernel_dtype("masked_latent_loss", backend, "pred", pred)
    if target_scale is None:
        narrow = kernel_dtype("masked_latent_loss", backend, "target", target) and narrow
    if kernel == "reference" or not narrow:
        return reference.masked_latent_loss(pred, target, target_scale, masked, weight, kind, normalize_target)
    with_grad = wants_grad(_NAME, pred, target, target_scale, weight)
    if weight is None:
        return _op(pred, target, target_scale, masked, None, kind, normalize_target, with_grad, kernel)[0]
    # In the kernel the greatest weight is about 1: then none carries a float16 gradient out of its range. What the
    # weights sum to stays on the device, and reaches the gradient as part of the upstream scale, in float32.
    share = reference.normalized_weight(weight)
    mean = _op(pred, target, target_scale, masked, share, kind, normalize_target, with_grad, kernel)[0]
    return reference.from_mean_to_weighted(mean, share)


def masked_mse(
    pred: torch.Tensor,
    target: torch.Tensor,
    masked: torch.Tensor,
    *,
    normalize_target: bool = False,
    backend: Backend = "auto",
) -> torch.Tensor:
    """Compute :func:`masked_latent_loss` with ``kind="mse"``."""
    return masked_latent_loss(pred, target, masked, kind="mse", normalize_target=normalize_target, backend=backend)


def _check(
    pred: torch.Tensor, target: torch.Tensor, target_scale: torch.Tensor | None, masked: torch.Tensor, kind: str
) -> None:
    name = "masked_latent_loss"
    if kind not in KINDS:
        raise ValueError(f"{name}: kind must be one of {', '.join(KINDS)}; got {kind!r}")
    _checks.tensors(name, pred=pred, target=target, masked=masked)
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
    if not pred.is_floating_point():
        raise TypeError(f"{name}: pred must be floating point; got {pred.dtype}")
    if target_scale is not None:
        _checks.tensors(name, target_scale=target_scale)
        if target.dtype != torch.int8 or target_scale.dtype != torch.float16:
            raise TypeError(
                f"{name}: target_scale goes with an int8 target and is float16; got a {target.dtype} target and a "
                f"{target_scale.dtype} scale"
            )
        if target_scale.shape != target.shape[:2]:
            raise ValueError(
                f"{name}: target_scale must be [B, N] = {tuple(target.shape[:2])}, got {tuple(target_scale.shape)}"
            )
        if target.device != target_scale.device:
            raise _checks.devices_error(name, target=target, target_scale=target_scale)
    elif target.dtype == torch.int8:
        raise TypeError(f"{name}: an int8 target needs target_scale, a float16 factor for each token")
    elif not target.is_floating_point():
        raise TypeError(f"{name}: target must be floating point, or int8 with a scale; got {target.dtype}")
    elif (pred.dtype == torch.float64) != (target.dtype == torch.float64):
        raise TypeError(f"{name}: float64 does not mix with other dtypes; got {pred.dtype} and {target.dtype}")
    for argument, x in (("target", target), ("target_scale", target_scale)):
        if x is not None and x.requires_grad:
            raise ValueError(f"{name}: {argument} requires grad, but only pred gets a gradient; detach it")
    if not pred.device == target.device == masked.device:
        raise _checks.devices_error(name, pred=pred, target=target, masked=masked)


def _check_weight(pred: torch.Tensor, weight: torch.Tensor) -> None:
    name = "masked_latent_loss"
    _checks.tensors(name, weight=weight)
    wanted = torch.float64 if pred.dtype == torch.float64 else torch.float32
    if weight.dtype != wanted:
        raise TypeError(f"{name}: weight must be {wanted} for a {pred.dtype} pred, got {weight.dtype}")
    if weight.shape != pred.shape[:2]:
        raise ValueError(f"{name}: weight must be [B, M] = {tuple(pred.shape[:2])}, got {tuple(weight.shape)}")
    if weight.device != pred.device:
        raise _checks.devices_error(name, pred=pred, weight=weight)
    if weight.requires_grad:
        raise ValueError(f"{name}: weight requires grad, but only pred gets a gradient; detach it")
    if weight.is_cpu and weight.numel():
        least = readable_value(weight.amin())
        if least is not None and least < 0:
            raise ValueError(f"{name}: weight must be at least 0, and its least is {least:g}")


def quantize_tokens(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise tokens to int8 with one scale per token: half the bytes of bfloat16, for targets that are stored or
    sent.

    Token n is about ``values[..., n, :] * scale[..., n]``, where the scale is the token's largest absolute value over
    127, rounded to float16. An element is off by at most half a step, 0.4 % of its token's largest.

    Args:
        x: [..., N, D] floating point, each token's largest value between 0.008 and 8e6: 127 times float16's range.

    Returns:
        int8 [..., N, D] and float16 [..., N].

    Raises:
        TypeError: x is not a floating-point tensor of two dimensions or more.

    Example:
        >>> values, scale = quantize_tokens(teacher(clip))
        >>> loss = masked_latent_loss(pred, values, masked, target_scale=scale)
    """
    _checks.tensors("quantize_tokens", x=x)
    if x.ndim < 2 or not x.is_floating_point():
        raise TypeError(f"quantize_tokens: x must be floating point [..., N, D]; got {x.dtype} {tuple(x.shape)}")
    scale = (x.abs().amax(-1).float() / 127).clamp(min=2**-24).half()  # at least float16's smallest number
    return (x.float() / scale.float().unsqueeze(-1)).round().clamp(-127, 127).to(torch.int8), scale
