"""VICReg's anti-collapse penalties on predicted latents (Bardes et al., ICLR 2022), in plain PyTorch."""

import torch

from fastvid.ops import _checks
from fastvid.ops._autocast import without_autocast


def variance_penalty(x: torch.Tensor, *, target_std: float = 1.0, eps: float = 1e-4) -> torch.Tensor:
    """Compute a hinge on the standard deviation of each dimension: ``mean over d of relu(target_std - std(x[:, d]))``.

    Args:
        x: [..., D]; all leading dimensions are samples.
        target_std: the deviation each dimension should reach.
        eps: added to the variance before the root, so that a collapsed dimension has a finite gradient.

    Returns:
        Scalar float32 (float64 for float64 input).

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: fewer than two samples, whose deviation is undefined.
    """
    x = _samples("variance_penalty", x)
    std = (x.var(dim=0) + eps).sqrt()
    return (target_std - std).clamp(min=0).mean()


def covariance_penalty(x: torch.Tensor) -> torch.Tensor:
    """Compute the squared covariance between different dimensions: ``sum over i != j of cov(x)[i, j]**2 / D``.

    Args:
        x: [..., D]; all leading dimensions are samples.

    Returns:
        Scalar float32 (float64 for float64 input).

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: fewer than two samples.
    """
    x = _samples("covariance_penalty", x)
    with without_autocast(x.device):  # in bfloat16 the diagonal would drown the rest
        x = x - x.mean(dim=0)
        cov = x.T @ x / (x.shape[0] - 1)
        return (cov.square().sum() - cov.diagonal().square().sum()) / x.shape[1]


def _samples(name: str, x: torch.Tensor) -> torch.Tensor:
    _checks.tensors(name, x=x)
    if x.ndim < 2:
        raise ValueError(f"{name}: x must be [..., D] with samples before D, got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"{name}: x must be floating point, got {x.dtype}")
    x = x.flatten(0, -2)
    if x.shape[0] < 2:
        raise ValueError(f"{name}: needs at least two samples, got shape {tuple(x.shape)}")
    return x if x.dtype == torch.float64 else x.float()
