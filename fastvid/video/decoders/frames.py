"""The frames of one video as a batch decoder returns them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class DecodedFrames:
    """Frames on a device, before they are cut.

    Attributes:
        pixels: uint8 [n, H, W, 3], upright.
        to_rgb: float32 [3, 3] that turns the pixels' three channels into RGB; None where they are RGB.
    """

    pixels: "torch.Tensor"
    to_rgb: "torch.Tensor | None" = None
