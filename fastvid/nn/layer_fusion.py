"""Tokens of several layers of an encoder, fused into one token each."""

import torch
from torch import nn

from fastvid.nn.init import Init, init_weights


class LayerFusion(nn.Module):
    """Normalises the tokens of each layer and fuses them: Linear(layers * width, width), GELU.

    With the linear embedding of the predictor behind it this is how V-JEPA 2.1 (arXiv 2603.14482) feeds its predictor.
    The last layer's tokens are taken as they are: the encoder's own norm has been there.

    Args:
        width: width of a token.
        layers: layers that are fused.
        init: how the weights start; see :func:`fastvid.nn.init_weights`.
    """

    def __init__(self, width: int, layers: int, init: Init = "xavier"):
        super().__init__()
        self.layers = layers
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers - 1))
        self.proj = nn.Linear(layers * width, width)
        self.act = nn.GELU()
        init_weights(self, init)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map [B, V, layers * width], the layers side by side, to [B, V, width]."""
        *early, last = tokens.chunk(self.layers, dim=-1)
        parts = [norm(layer) for norm, layer in zip(self.norms, early, strict=True)]
        return self.act(self.proj(torch.cat([*parts, last], dim=-1)))
