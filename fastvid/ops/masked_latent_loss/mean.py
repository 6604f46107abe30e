"""The mean of the masked latent loss, and where its factor is applied to the gradient."""

import torch


def mean_scale(pred: torch.Tensor, kind: str) -> float:
    """Return one over the number of terms in the mean: elements, or tokens for the cosine."""
    rows = pred.shape[0] * pred.shape[1]
    return 1.0 / (rows if kind == "cosine" else rows * pred.shape[2])


def grad_scale(pred: torch.Tensor, kind: str) -> float:
    """Return the part of the mean's factor that the stored gradient already includes.

    d(mean)/d(pred) is about 1 / (B M D), which underflows in float16: there the gradient of the sum is stored, and the
    factor is applied in the backward pass together with the loss scale.
    """
    return 1.0 if pred.dtype == torch.float16 else mean_scale(pred, kind)


def factor_left(pred: torch.Tensor, kind: str) -> float:
    """Return the part of the mean's factor that the backward pass still has to apply."""
    return mean_scale(pred, kind) if pred.dtype == torch.float16 and pred.numel() else 1.0
