"""timm's vision transformers as encoders that are looked at."""

from functools import partial
from typing import Any

import torch
from torch.nn import functional

from fastvid.projects.fvlm.encoder import Block, Map, VisionEncoder, same

ALWAYS: dict[str, Any] = {"num_classes": 0, "dynamic_img_size": True}
"""Arguments that every encoder is made with: no head, and frames of any size."""


class TimmEncoder(VisionEncoder):
    """A timm ``VisionTransformer`` of ordinary blocks.

    Args:
        model: made by :func:`timm.create_model`, with :data:`ALWAYS`.
        name: of the model.
        arguments: further arguments that it was made with, plain values for JSON.
        mean: per-channel mean of pixels in [0, 1]; default: the model's own.
        std: per-channel standard deviation of pixels in [0, 1]; likewise.

    Raises:
        ValueError: its layers are not ordinary ones.
    """

    def __init__(
        self,
        model: Any,
        name: str,
        arguments: dict[str, Any] | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
    ):
        from timm.models.vision_transformer import Block as TimmBlock
        from timm.models.vision_transformer import VisionTransformer

        ordinary = type(model) is VisionTransformer and all(
            type(block) is TimmBlock and hasattr(block.attn, "qkv") and getattr(block.attn, "gate", None) is None
            for block in model.blocks
        )
        if not ordinary or model.patch_embed.patch_size[0] != model.patch_embed.patch_size[1]:
            raise ValueError(
                f"timm's {name} is no plain vision transformer: its layers cannot be looked at; use one such as "
                "vit_small_patch14_dinov2.lvd142m"
            )
        shown = model.pretrained_cfg
        super().__init__(
            model, width=model.embed_dim, heads=model.blocks[0].attn.num_heads, patch=model.patch_embed.patch_size[0],
            prefix=model.num_prefix_tokens, mean=mean or tuple(shown["mean"]), std=std or tuple(shown["std"]),
        )  # fmt: skip

        self.name, self.arguments = name, arguments or {}

    def embed(self, pixels: torch.Tensor) -> tuple[torch.Tensor, Map]:
        """Map normalised pixels [F, 3, H, W] to tokens [F, N, D]; positions are added, and nothing is rotated."""
        model = self.model
        tokens: torch.Tensor = model.norm_pre(model._pos_embed(model.patch_embed(pixels)))
        return tokens, same

    def blocks(self) -> list[Block]:
        """Return the layers."""
        return [_block(block) for block in self.model.blocks]

    def norm(self, tokens: torch.Tensor) -> torch.Tensor:
        """Apply the norm behind the last layer."""
        normed: torch.Tensor = self.model.norm(tokens)
        return normed


def _block(block: Any) -> Block:
    attention = block.attn
    query, key, value = (partial(_part, attention.qkv, part=part) for part in range(3))
    return Block(
        norm1=block.norm1, query=query, key=key, value=value, out=partial(_out, attention), scale1=block.ls1,
        norm2=block.norm2, mlp=block.mlp, scale2=block.ls2, norm_query=attention.q_norm, norm_key=attention.k_norm,
    )  # fmt: skip


def _part(qkv: Any, x: torch.Tensor, part: int) -> torch.Tensor:
    """Apply the query's, the key's or the value's third of the fused projection."""
    weight = qkv.weight.chunk(3)[part]
    return functional.linear(x, weight, None if qkv.bias is None else qkv.bias.chunk(3)[part])


def _out(attention: Any, attended: torch.Tensor) -> torch.Tensor:
    projected: torch.Tensor = attention.proj(attention.norm(attended))
    return projected
