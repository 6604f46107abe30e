"""Comparison of an exported encoder with its origin: the same clips, the same tokens."""

import torch

from fastvid.models.vit_config import VideoViTConfig


def random_clips(config: VideoViTConfig, count: int) -> torch.Tensor:
    """Return clips uint8 [count, T, H, W, 3] of an encoder's shape, the same for every call."""
    shape = (count, config.frames, config.size, config.size, 3)
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(count)).to(torch.uint8)


def normalized(pixels: torch.Tensor, config: VideoViTConfig) -> torch.Tensor:
    """Return uint8 pixels [..., 3] as an encoder normalises them, in float64."""
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (config.mean, config.std))
    return (pixels.double() / 255 - mean) / std


def check_equal(found: torch.Tensor, expected: torch.Tensor, tolerance: float, who: str, why: str = "") -> None:
    """Raise ValueError unless tokens are an encoder's.

    Args:
        found: tokens of the exported model.
        expected: the encoder's.
        tolerance: greatest difference, as a share of the largest value.
        who: the exported model, for the message.
        why: the likely reason, for the message.
    """
    worst = float((found - expected).abs().max() / expected.abs().max())
    if not worst <= tolerance:
        reason = f": {why}" if why else ""
        raise ValueError(f"the tokens of {who} differ from the encoder's by {worst:.2g} of the largest{reason}")
