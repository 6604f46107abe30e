"""Fixed positions of a token grid."""

import torch


def sincos_positions(grid: tuple[int, int, int], dim: int) -> torch.Tensor:
    """Sine-cosine positions of a (T, H, W) grid, as V-JEPA lays them out: half of the width for time, a quarter each
    for height and width; ``10000 ** (-2 i / d)`` frequencies within each.

    Args:
        grid: tokens along time, height and width.
        dim: width, a multiple of 8.

    Returns:
        float32 [T * H * W, dim], t-major.

    Raises:
        ValueError: ``dim`` is no multiple of 8.
    """
    if dim % 8:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of 8; got {dim}")
    t, h, w = grid
    time = _axis(t, dim // 2)[:, None, None].expand(t, h, w, -1)
    rows = _axis(h, dim // 4)[None, :, None].expand(t, h, w, -1)
    columns = _axis(w, dim // 4)[None, None, :].expand(t, h, w, -1)
    return torch.cat([time, rows, columns], dim=-1).reshape(t * h * w, dim)


def _axis(length: int, dim: int) -> torch.Tensor:
    frequency = 10000.0 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()
