"""Hugging Face's DINOv3 as an encoder that is looked at."""

from functools import partial
from typing import Any

import torch

from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD
from fastvid.projects.fvlm.encoder import Block, Map, VisionEncoder


class Dinov3Encoder(VisionEncoder):
    """DINOv3, whose patches are rotated by their places. A query has no place, like the class token, and is not.

    Args:
        model: ``DINOv3ViTModel``.
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel standard deviation of pixels in [0, 1].
    """

    def __init__(
        self,
        model: Any,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ):
        config = model.config
        super().__init__(
            model, width=config.hidden_size, heads=config.num_attention_heads, patch=config.patch_size,
            prefix=1 + config.num_register_tokens, mean=mean, std=std,
        )  # fmt: skip
        model.embeddings.mask_token.requires_grad_(False)  # for masked pretraining: nothing here reads it

    def embed(self, pixels: torch.Tensor) -> tuple[torch.Tensor, Map]:
        """Map normalised pixels [F, 3, H, W] to tokens [F, N, D], and return the rotation by their places."""
        cos, sin = self.model.rope_embeddings(pixels)
        tokens: torch.Tensor = self.model.embeddings(pixels)
        return tokens, partial(_rotate, cos=cos, sin=sin, prefix=self.prefix)

    def blocks(self) -> list[Block]:
        """Return the layers."""
        model = self.model if hasattr(self.model, "layer") else self.model.model  # by transformers' version
        return [_block(layer) for layer in model.layer]

    def norm(self, tokens: torch.Tensor) -> torch.Tensor:
        """Apply the norm behind the last layer."""
        normed: torch.Tensor = self.model.norm(tokens)
        return normed


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, prefix: int) -> torch.Tensor:
    """Rotate queries or keys [F, heads, N, d] of patches by ``cos`` and ``sin`` [N - prefix, d]."""
    first, patches = x[:, :, :prefix], x[:, :, prefix:]
    left, right = patches.chunk(2, -1)
    return torch.cat([first, patches * cos + torch.cat([-right, left], -1) * sin], 2)


def _block(layer: Any) -> Block:
    attention = layer.attention
    return Block(
        norm1=layer.norm1, query=attention.q_proj, key=attention.k_proj, value=attention.v_proj, out=attention.o_proj,
        scale1=layer.layer_scale1, norm2=layer.norm2, mlp=layer.mlp, scale2=layer.layer_scale2,
    )  # fmt: skip
