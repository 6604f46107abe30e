"""The definition of tubelet gathering in plain PyTorch: normalise every pixel, cut into tubelets, pick some."""

from collections.abc import Sequence

import torch

from fastvid.ops.gather_tokens.reference import gather_tokens


def gather_tubelets(
    clip: torch.Tensor,
    index: torch.Tensor | None,
    tubelet: int,
    patch: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: torch.dtype,
) -> torch.Tensor:
    """Map clip uint8 [B, T, H, W, 3] and index int64 [B, V] or None to [B, V, 3 * tubelet * patch**2]."""
    B, T, H, W, C = clip.shape
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    x = clip.to(compute) / 255
    x = (x - torch.tensor(mean, dtype=compute, device=clip.device)) / torch.tensor(
        std, dtype=compute, device=clip.device
    )
    x = x.reshape(B, T // tubelet, tubelet, H // patch, patch, W // patch, patch, C)
    x = x.permute(0, 1, 3, 5, 7, 2, 4, 6)  # [B, T', H', W', C, tubelet, patch, patch]
    x = x.reshape(B, -1, C * tubelet * patch * patch).to(dtype)
    return x if index is None else gather_tokens(x, index)


def scale_shift(mean: Sequence[float], std: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the scale and shift per channel for which ``(pixel / 255 - mean) / std`` is ``pixel * scale + shift``."""
    return [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
