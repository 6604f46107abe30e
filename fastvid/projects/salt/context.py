"""The dense loss of V-JEPA 2.1: visible tokens are predicted too, those near masked ones weigh more."""

import torch

from fastvid.data import Latents
from fastvid.ops import mask_distance
from fastvid.projects.salt.config import LossConfig
from fastvid.projects.salt.model import Mask
from fastvid.projects.salt.token_subset import is_among


def context_share(config: LossConfig, draw: int, draws: int) -> float:
    """Return the loss's weight on visible tokens at a micro-batch: it rises linearly over the warm-up.

    Args:
        config: greatest weight, and the shares of the stage between which it is reached.
        draw: number of the micro-batch.
        draws: of the stage.
    """
    begin, end = (share * draws for share in config.context_warmup)
    if draw >= end:
        return config.context
    return config.context * max(0.0, draw - begin) / (end - begin)


def dense_weights(
    mask: Mask, hidden: torch.Tensor, grid: tuple[int, int, int], share: float, targets: object = None
) -> torch.Tensor:
    """Return the weights of the masked tokens and then of the visible ones, float32 [B, M + V].

    Their loss's weighted sum over a clip is ``mean over the masked tokens of l + share * mean over the visible ones of
    l / sqrt(distance)``, with the distance to the nearest masked token in the grid (arXiv 2603.14482).

    Args:
        mask: visible int64 [B, V] and the masked tokens that are predicted, int64 [B, M].
        hidden: int64 [B, H], all masked tokens.
        grid: (T, H, W).
        share: of the loss on visible tokens.
        targets: Latents of some tokens only: the others weigh nothing, and these so much more that the mean over the
            choice of tokens is the same.
    """
    visible, masked = mask
    near = mask_distance(hidden, grid).gather(1, visible).rsqrt() * (share / visible.shape[1])
    if isinstance(targets, Latents) and targets.tokens is not None:
        near = near * is_among(visible, targets.tokens) * (grid[0] * grid[1] * grid[2] / targets.tokens.shape[1])
    return torch.cat([torch.full_like(masked, 1 / masked.shape[1], dtype=torch.float32), near], dim=1)
