"""The definition of the masked latent loss in plain PyTorch: gather first, then normalise only what is needed."""

import torch
import torch.nn.functional as F

from fastvid.ops.gather_tokens.reference import gather_tokens

LAYER_NORM_EPS = 1e-5
COSINE_EPS = 1e-8


def masked_latent_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    target_scale: torch.Tensor | None,
    masked: torch.Tensor,
    weight: torch.Tensor | None,
    kind: str,
    normalize_target: bool,
) -> torch.Tensor:
    """Map pred [B, M, D], target [B, N, D], target_scale [B, N] or None, masked int64 [B, M] and weight [B, M] or None
    to a scalar.

    The result is float32, or float64 where pred is.
    """
    compute = torch.float64 if pred.dtype == torch.float64 else torch.float32
    if pred.numel() == 0:
        return pred.sum(dtype=compute)
    picked = gather_tokens(target, masked).to(compute)  # [B, M, D]
    if target_scale is not None:
        picked = picked * target_scale.gather(1, masked).unsqueeze(-1).to(compute)
    if normalize_target:
        picked = F.layer_norm(picked, picked.shape[-1:], eps=LAYER_NORM_EPS)
    pred = pred.to(compute)
    reduction = "mean" if weight is None else "none"
    if kind == "mse":
        loss = F.mse_loss(pred, picked, reduction=reduction)
    elif kind == "l1":
        loss = F.l1_loss(pred, picked, reduction=reduction)
    elif kind == "smooth_l1":
        loss = F.smooth_l1_loss(pred, picked, reduction=reduction)
    else:
        norms: torch.Tensor = pred.norm(dim=-1).clamp(min=COSINE_EPS) * picked.norm(dim=-1).clamp(min=COSINE_EPS)
        loss = 1 - (pred * picked).sum(-1) / norms
    if weight is None:
        return loss.mean()
    rows = loss if kind == "cosine" else loss.mean(-1)  # [B, M]
    share = normalized_weight(weight)
    total = share.sum()
    return (share * rows).sum() / torch.where(total == 0, 1.0, total)


def normalized_weight(weight: torch.Tensor) -> torch.Tensor:
    """Return the weights [B, M] over a power of two, exactly, so that the greatest is between 1/2 and 1; NaN, which
    shows, where one is negative. Nothing waits for the device.
    """
    if not weight.numel():
        return weight
    exponent = torch.frexp(weight.amax()).exponent.clamp(-100, 100)
    return torch.where(weight < 0, float("nan"), torch.ldexp(weight, -exponent))


def from_mean_to_weighted(mean: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return ``sum of w * l / sum of w`` from the ``mean of w * l``; 0 where all weights are 0. Sums and quotients of
    float64 scalars leave one rounding.
    """
    total = share.sum(dtype=torch.float64)
    return (mean * (share.numel() / torch.where(total == 0, 1.0, total))).to(mean.dtype)


def scale_gradient(grad: torch.Tensor, upstream: torch.Tensor, factor: float) -> torch.Tensor:
    """Return ``grad * upstream * factor``, multiplied in float32: float16 cannot hold a factor near 1e-7."""
    return (grad.float() * (upstream * factor)).to(grad.dtype)
