"""Patch embedding of the visible tokens only, straight from uint8 pixels."""

import torch
import torch.nn.functional as F
from torch import nn

from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD, gather_tubelets


class VisiblePatchEmbed(nn.Module):
    """A Conv3d patch embedding that normalises and multiplies only the tubelets asked for.

    Its parameters are those of ``Conv3d(3, dim, kernel_size=(tubelet, patch, patch), stride=same)``, under the names
    ``proj.weight`` and ``proj.bias``: a checkpoint of such an embedding loads unchanged.

    Args:
        dim: width of a token.
        tubelet: frames per tubelet.
        patch: side of a patch in pixels.
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel standard deviation of pixels in [0, 1].
    """

    def __init__(
        self,
        dim: int,
        *,
        tubelet: int = 2,
        patch: int = 16,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ):
        super().__init__()
        self.tubelet, self.patch = tubelet, patch
        self.mean, self.std = mean, std
        self.proj = nn.Conv3d(3, dim, (tubelet, patch, patch), (tubelet, patch, patch))

    def forward(self, clip: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        """Map clip uint8 [B, T, H, W, 3] and index int64 [B, V], or None for all, to [B, V, dim]."""
        weight, bias = self.proj.weight.flatten(1), self.proj.bias
        # Under autocast the product runs in the autocast dtype: the pixels are written in it at once.
        device = clip.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else weight.dtype
        pixels = gather_tubelets(
            clip, index, tubelet=self.tubelet, patch=self.patch, mean=self.mean, std=self.std, dtype=dtype
        )
        return F.linear(pixels, weight, bias)

    def extra_repr(self) -> str:
        return f"tubelet={self.tubelet}, patch={self.patch}"
