"""A video ViT with timm's blocks that embeds and processes only the visible tokens."""

import dataclasses
import difflib
import functools
import math
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastvid.models.pretrained import Parts, load_timm
from fastvid.models.vit_config import VideoViTConfig
from fastvid.nn import VisiblePatchEmbed, init_weights, sincos_positions, sinusoid_positions


class VideoViT(nn.Module):
    """The encoder: tubelets of a uint8 clip in, normalised tokens out.

    Args:
        config: options of the encoder.

    Attributes:
        grid: (T, H, W) tokens.
        dim: width of a token.

    Raises:
        ValueError: the name is not a timm VisionTransformer, or one with parts that a video ViT lacks; sizes do not
            divide; or pretrained weights do not fit.
        FileNotFoundError: pretrained weights that are not there, as without a network.
    """

    def __init__(self, config: VideoViTConfig):
        super().__init__()
        self.config = config
        vit = _timm_vit(config)
        if config.pretrained:  # the weights want the pixels they were trained with
            shown: dict = vit.pretrained_cfg  # type: ignore[assignment]
            config = self.config = dataclasses.replace(config, mean=tuple(shown["mean"]), std=tuple(shown["std"]))
        patch = config.patch or vit.patch_embed.patch_size[0]
        if config.frames % config.tubelet or config.size % patch:
            raise ValueError(
                f"{config.frames} frames of {config.size} x {config.size} do not divide into tubelets of "
                f"{config.tubelet} x {patch} x {patch}"
            )
        self.grid = (config.frames // config.tubelet, config.size // patch, config.size // patch)
        self.dim: int = vit.embed_dim
        self.checkpointing = False
        self.patch_embed = VisiblePatchEmbed(
            self.dim, tubelet=config.tubelet, patch=patch, mean=config.mean, std=config.std
        )
        self.patch_norm = vit.patch_embed.norm  # without weights for most models; aimv2 has one
        self.blocks = nn.ModuleList(vit.blocks)
        self.norm = vit.norm if not isinstance(vit.norm, nn.Identity) else vit.fc_norm
        sequence = config.positions == "sinusoid"
        tokens = math.prod(self.grid)
        table = sinusoid_positions(tokens, self.dim) if sequence else sincos_positions(self.grid, self.dim)
        if config.positions == "learned":
            self.positions = nn.Parameter(table)
        else:
            self.register_buffer("positions", table, persistent=False)
        if config.pretrained:
            self._load_image_patches(vit.patch_embed.proj, patch)
        else:
            init_weights(self, config.init)

    def forward(
        self, clip: torch.Tensor, index: torch.Tensor | None = None, layers: Sequence[int] = ()
    ) -> torch.Tensor:
        """Map clip uint8 [B, T, H, W, 3] and index int64 [B, V], or None for all tokens, to [B, V, dim].

        Args:
            clip: the pixels.
            index: which tokens.
            layers: numbers of blocks, ascending, the first is 1: return what these give, side by side,
                [B, V, len(layers) * dim]. What the last block gives goes through the last norm, the others' does not.
        """
        config = self.config
        if clip.shape[1:4] != (config.frames, config.size, config.size):
            raise ValueError(
                f"this encoder takes clips of {config.frames} x {config.size} x {config.size}; got {tuple(clip.shape)}"
            )
        return self.encode(self.embed(clip, index), layers)

    def embed(self, clip: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the first half of :meth:`forward`: clip uint8 [B, T, H, W, 3] to tokens with positions [B, V,
        dim].
        """
        x = self.patch_norm(self.patch_embed(clip, index))
        return x + (self.positions if index is None else self.positions[index]).to(x.dtype)

    def encode(self, x: torch.Tensor, layers: Sequence[int] = ()) -> torch.Tensor:
        """Compute the second half of :meth:`forward`: the blocks and the last norm, [B, V, dim] to [B, V, dim]."""
        kept = []
        for number, block in enumerate(self.blocks, 1):
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
            if number in layers and number < len(self.blocks):
                kept.append(x)
        if not layers:
            return self.norm(x)
        if layers[-1] == len(self.blocks):
            kept.append(self.norm(x))
        return torch.cat(kept, dim=-1)

    def _load_image_patches(self, conv: nn.Conv2d, patch: int) -> None:
        if conv.kernel_size != (patch, patch):
            raise ValueError(f"{self.config.name} was trained with patches of {conv.kernel_size}, not {patch}")
        with torch.no_grad():
            # A still clip gets the same tokens as the image did.
            spread = conv.weight.unsqueeze(2) / self.config.tubelet
            self.patch_embed.proj.weight.copy_(spread.expand_as(self.patch_embed.proj.weight))
            assert self.patch_embed.proj.bias is not None
            self.patch_embed.proj.bias.copy_(torch.tensor(0.0) if conv.bias is None else conv.bias)


# Tensors of an image model that a video ViT does not use.
_UNUSED = Parts(may_leave_out=("head.", "head_dist."))


def _timm_vit(config: VideoViTConfig) -> VisionTransformer:
    own = _architecture(config.name)
    heads = next(module.num_heads for module in own.blocks.modules() if hasattr(module, "num_heads"))
    theirs = {"embed_dim": own.embed_dim, "depth": len(own.blocks), "num_heads": heads}
    wanted = {"embed_dim": config.width, "depth": config.depth, "num_heads": config.heads}
    overrides = {name: value for name, value in wanted.items() if value is not None}
    if any(value < 1 for value in overrides.values()):
        raise ValueError(f"model: width, depth and heads must be at least 1; got {overrides}")
    width, heads = ({**theirs, **overrides}[name] for name in ("embed_dim", "num_heads"))
    if width % heads:
        raise ValueError(f"model: width {width} is not divisible by {heads} heads")
    if not config.pretrained:
        return timm.create_model(config.name, num_classes=0, drop_path_rate=config.drop_path, **overrides)
    if theirs != {**theirs, **overrides}:
        raise ValueError(
            f"the pretrained weights of {config.name} are for its own width {theirs['embed_dim']}, depth "
            f"{theirs['depth']} and {theirs['num_heads']} heads: leave out width, depth and heads"
        )
    if config.patch not in (None, own.patch_embed.patch_size[0]):
        raise ValueError(
            f"{config.name} was trained with patches of {own.patch_embed.patch_size}, not {config.patch}: leave out "
            "patch"
        )
    return load_timm(config.name, parts=_UNUSED, num_classes=0, drop_path_rate=config.drop_path)


@functools.cache
def _architecture(name: str) -> VisionTransformer:
    """Build the timm model without storage, to inspect its parts.

    Raises:
        ValueError: no such model, or one that a video ViT would not compute as timm does.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models("vit_*"), n=4)
        raise ValueError(f"timm has no model {name!r}; similar names: {', '.join(near) or 'none'}")
    try:
        with torch.device("meta"):
            model: Any = timm.create_model(name, num_classes=0)
    except RuntimeError as error:  # an unknown tag
        raise ValueError(f"timm has no model {name!r}: {error}") from error
    if not isinstance(model, VisionTransformer):
        raise ValueError(f"{name} is a {type(model).__name__}; a timm VisionTransformer is needed")
    if type(model.patch_embed) is not PatchEmbed:
        raise ValueError(
            f"{name} embeds its patches by a {type(model.patch_embed).__name__}, which does not cut a clip into "
            "tubelets: use a model whose patch embedding is one convolution"
        )
    if not isinstance(model.norm_pre, nn.Identity):
        raise ValueError(f"{name} normalises its tokens before the first block, which this video ViT does not")
    return model
