"""Configuration of the video ViT. It imports no model code, so that the options of a run are read without it."""

import dataclasses
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from fastvid.nn import Init
from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD
from fastvid.ranges import Count, Share


@dataclass(frozen=True)
class ViTOptions:
    """The options of a video ViT beside the shape of its clips."""

    name: str = "vit_base_patch16_224"
    """Any timm VisionTransformer."""
    _: KW_ONLY
    width: Count | None = None
    """Overrides the model's width."""
    depth: Count | None = None
    """Overrides the model's number of blocks."""
    heads: Count | None = None
    """Overrides the model's number of heads."""
    patch: Count | None = None
    """Pixels per side of a token; default: the model's own."""
    tubelet: Count = 2
    """Frames per token."""
    positions: Literal["sincos", "learned", "sinusoid"] = "sincos"
    """Fixed 3-D sine-cosine positions, learnt ones that start there, or VideoMAE's fixed table, in which tokens are
    counted as in a sequence: with it an exported encoder is a VideoMAEModel of transformers."""
    init: Init = "xavier"
    """Start of the weights; mimetic ties query and key weights, which helps small models on small data."""
    drop_path: Share = 0.0
    """Stochastic depth."""
    pretrained: bool = False
    """Start from timm's image weights, with the pixel statistics they were trained with; positions are not taken."""

    def for_clips(self, *, frames: int, size: int) -> "VideoViTConfig":
        """Return the configuration of the encoder with these options.

        Args:
            frames: frames per clip.
            size: side of the frame in pixels.
        """
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(ViTOptions)}
        return VideoViTConfig(**options, frames=frames, size=size)


@dataclass(frozen=True)
class VideoViTConfig(ViTOptions):
    """A video ViT.

    The model of timm that is named embeds patches by a convolution, optionally normalised, and has no norm before its
    first block. Its blocks and norms are used, its class and register tokens are not. Stochastic depth rises linearly
    over the blocks to ``drop_path``. ``pretrained`` spreads the patch embedding over the tubelet's frames, and replaces
    mean and std. ``init`` is as :func:`fastvid.nn.init_weights` takes it.
    """

    _: KW_ONLY
    frames: Count = 16
    """Frames per clip."""
    size: Count = 224
    """Side of the frame in pixels."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Per-channel mean of pixels in [0, 1]."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Per-channel standard deviation of pixels in [0, 1]."""
