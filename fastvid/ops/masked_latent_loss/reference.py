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
    kind: str,
    normalize_target: bool,
) -> torch.Tensor:
    """Map pred [B, M, D], target [B, N, D], target_scale [B, N] or None and masked int64 [B, M] to a scalar.

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
    if kind == "mse":
        return F.mse_loss(pred, picked)
    if kind == "l1":
        return F.l1_loss(pred, picked)
    if kind == "smooth_l1":
        return F.smooth_l1_loss(pred, picked)
    norms: torch.Tensor = pred.norm(dim=-1).clamp(min=COSINE_EPS) * picked.norm(dim=-1).clamp(min=COSINE_EPS)
    return (1 - (pred * picked).sum(-1) / norms).mean()


def scale_gradient(grad: torch.Tensor, upstream: torch.Tensor, factor: float) -> torch.Tensor:
    """Return ``grad * upstream * factor``, multiplied in float32: float16 cannot hold a factor near 1e-7."""
    return (grad.float() * (upstream * factor)).to(grad.dtype)
