"""Hugging Face's DINOv2 as an encoder that is looked at."""

from functools import partial
from typing import Any

import torch

from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD
from fastvid.projects.fvlm import light_layer
from fastvid.projects.fvlm.encoder import Block, Map, VisionEncoder, same


class Dinov2Encoder(VisionEncoder):
    """DINOv2, with or without registers.

    Args:
        model: ``Dinov2Model`` or ``Dinov2WithRegistersModel``.
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
            prefix=1 + getattr(config, "num_register_tokens", 0), mean=mean, std=std,
        )  # fmt: skip
        self.light = all(light_layer.is_plain(layer.mlp) for layer in model.encoder.layer)
        if (mask_token := getattr(model.embeddings, "mask_token", None)) is not None:
            mask_token.requires_grad_(False)  # it is for masked pretraining: nothing here reads it

    def embed(self, pixels: torch.Tensor) -> tuple[torch.Tensor, Map]:
        """Map normalised pixels [F, 3, H, W] to tokens [F, N, D]; positions are added, and nothing is rotated."""
        return self.model.embeddings(pixels), same

    def blocks(self) -> list[Block]:
        """Return the layers."""
        return [_block(layer, self.light) for layer in self.model.encoder.layer]

    def norm(self, tokens: torch.Tensor) -> torch.Tensor:
        """Apply the norm behind the last layer."""
        normed: torch.Tensor = self.model.layernorm(tokens)
        return normed


def _block(layer: Any, light: bool) -> Block:
    attention = layer.attention
    if hasattr(attention, "q_proj"):
        query, key, value, out = attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj
    else:  # transformers names them otherwise before and after
        inner = attention.attention
        query, key, value, out = inner.query, inner.key, inner.value, attention.output.dense
    return Block(
        norm1=layer.norm1, query=query, key=key, value=value, out=out, scale1=layer.layer_scale1, norm2=layer.norm2,
        mlp=layer.mlp, scale2=layer.layer_scale2,
        finish=partial(light_layer.finish, layer, out) if light else None,
    )  # fmt: skip
