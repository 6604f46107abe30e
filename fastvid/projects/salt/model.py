"""SALT: a student predicts, at masked tubelets, what a frozen teacher sees there (arXiv 2509.24317)."""

from collections.abc import Sequence

import torch
from torch import nn

from fastvid.models.vit import VideoViT
from fastvid.nn import LayerFusion, Predictor

# One mask of a step: visible int64 [B, V] and masked int64 [B, M].
Mask = tuple[torch.Tensor, torch.Tensor]


class MaskedPrediction(nn.Module):
    """An encoder on visible tokens and a predictor for masked ones: the trained part of both stages.

    In stage 1 the predictions are pixels, in stage 2 the teacher's latents.

    Args:
        encoder: the video ViT that is kept.
        predictor: thrown away after training.
        layers: numbers of the encoder's blocks whose tokens the predictor gets, fused into one; empty for the encoder's
            tokens as they are.
        fusion: fuses them; thrown away too. None without ``layers``.
    """

    def __init__(
        self, encoder: VideoViT, predictor: Predictor, layers: Sequence[int] = (), fusion: LayerFusion | None = None
    ):
        super().__init__()
        self.encoder, self.predictor, self.layers, self.fusion = encoder, predictor, tuple(layers), fusion

    def forward(self, clip: torch.Tensor, masks: list[Mask]) -> list[torch.Tensor]:
        """Map clip uint8 [B, T, H, W, 3] to predictions [B, M, out_dim] for each mask, or [B, M + V, out_dim] where the
        predictor predicts visible tokens too."""
        return [
            self.predictor(self._tokens(clip, visible), visible, masked, which)
            for which, (visible, masked) in enumerate(masks)
        ]

    def _tokens(self, clip: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.encoder(clip, visible, self.layers)
        return tokens if self.fusion is None else self.fusion(tokens)


def spread_layers(depth: int, count: int) -> tuple[int, ...]:
    """Return the numbers of ``count`` of an encoder's blocks, or of all ``depth`` where there are fewer: evenly spaced,
    the last one among them. Of 24 blocks 4 are 6, 12, 18 and 24, as in V-JEPA 2.1.
    """
    count = min(count, depth)
    return tuple(round(depth * (i + 1) / count) for i in range(count))
