"""Glimpses around fixations that are given at the call, or learnt."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD, foveated_glimpse


@dataclass(frozen=True)
class GlimpseConfig:
    """Options of sampling the crops around a fixation.

    Attributes:
        size: side of a resampled crop in samples.
        levels: crops per fixation.
        level_ratio: growth of the side from level to level.
        padding: ``"border"`` or ``"zeros"``, what lies outside the frame.
        antialias: average over the area between samples where a crop is shrunk.
    """

    size: int
    levels: int
    level_ratio: float = 2.0
    padding: Literal["border", "zeros"] = "border"
    antialias: bool = True


class FoveatedGlimpse(nn.Module):
    """Stacks of concentric crops around ``gazes`` fixations per frame; see :func:`fastvid.ops.foveated_glimpse`.

    A fixation is a centre and a scale. Where the call gives none, the module's own are used, the same ones in every
    frame: the centres start on a grid over the frame, the scale at the geometric mean of ``scale_range``. Their
    parameters are unbounded; ``tanh`` keeps a centre in the frame, and ``exp`` of a ``sigmoid`` a scale in its range.

    Args:
        config: how crops are sampled.
        gazes: G, fixations per frame.
        scale_range: least and greatest side of the innermost crop, as a share of the frame's shorter side.
        learnable: whether the module's own fixations are trained; else they are buffers.
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel standard deviation of pixels in [0, 1].
    """

    def __init__(
        self,
        config: GlimpseConfig,
        *,
        gazes: int = 1,
        scale_range: tuple[float, float] = (0.05, 1.0),
        learnable: bool = True,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ):
        super().__init__()
        least, greatest = scale_range
        if gazes < 1:
            raise ValueError(f"glimpse: gazes must be at least 1, got {gazes}")
        if not 0 < least < greatest:
            raise ValueError(f"glimpse: scale_range must be two rising positive numbers, got {scale_range}")
        self.config, self.scale_range, self.mean, self.std = config, scale_range, mean, std
        columns = math.ceil(math.sqrt(gazes))
        cell = torch.arange(gazes)
        x, y = (cell % columns + 0.5) / columns, (cell // columns + 0.5) / math.ceil(gazes / columns)
        raw_center, raw_scale = torch.atanh(2 * torch.stack([x, y], -1) - 1), torch.zeros(gazes)
        self.raw_center: torch.Tensor
        self.raw_scale: torch.Tensor
        if learnable:
            self.raw_center, self.raw_scale = nn.Parameter(raw_center), nn.Parameter(raw_scale)
        else:
            self.register_buffer("raw_center", raw_center)
            self.register_buffer("raw_scale", raw_scale)

    def gaze(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the module's own fixations: center float32 [G, 2] in (-1, 1) and scale float32 [G] in
        ``scale_range``."""
        low, high = (math.log(x) for x in self.scale_range)
        return self.raw_center.float().tanh(), (low + (high - low) * self.raw_scale.float().sigmoid()).exp()

    def forward(
        self, frames: torch.Tensor, center: torch.Tensor | None = None, scale: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map frames uint8 or float [B, T, H, W, 3] to [B, T, G, levels, 3, size, size] in the parameters' dtype.

        ``center`` [B, T, G, 2] and ``scale`` [B, T, G] replace the module's own, one or both; under autocast the result
        is in the autocast dtype.
        """
        B, T = frames.shape[:2]
        own_center, own_scale = self.gaze()
        if center is None:
            center = own_center.expand(B, T, -1, -1)
        if scale is None:
            scale = own_scale.expand(B, T, -1)
        device = frames.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else self.raw_center.dtype
        return foveated_glimpse(
            frames, center, scale, size=self.config.size, levels=self.config.levels,
            level_ratio=self.config.level_ratio, mean=self.mean, std=self.std, dtype=dtype,
            padding=self.config.padding, antialias=self.config.antialias,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"{self.config}, gazes={len(self.raw_scale)}, scale_range={self.scale_range}"
