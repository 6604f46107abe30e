"""SALT: a student predicts, at masked tubelets, what a frozen teacher sees there (arXiv 2509.24317)."""

import torch
from torch import nn

from fastvid.models.vit import VideoViT
from fastvid.nn import Predictor

# One mask of a step: visible int64 [B, V] and masked int64 [B, M].
Mask = tuple[torch.Tensor, torch.Tensor]


class MaskedPrediction(nn.Module):
    """An encoder on visible tokens and a predictor for masked ones: the trained part of both stages.

    In stage 1 the predictions are pixels, in stage 2 the teacher's latents.

    Args:
        encoder: the video ViT that is kept.
        predictor: thrown away after training.
    """

    def __init__(self, encoder: VideoViT, predictor: Predictor):
        super().__init__()
        self.encoder, self.predictor = encoder, predictor

    def forward(self, clip: torch.Tensor, masks: list[Mask]) -> list[torch.Tensor]:
        """Map clip uint8 [B, T, H, W, 3] to predictions [B, M, out_dim] for each mask."""
        return [
            self.predictor(self.encoder(clip, visible), visible, masked, which)
            for which, (visible, masked) in enumerate(masks)
        ]
