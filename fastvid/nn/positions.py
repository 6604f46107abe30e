"""Fixed positions of a token grid."""

import math

import torch


def sincos_positions(grid: tuple[int, int, int], dim: int, temperature: float = 10000.0) -> torch.Tensor:
    """Return sine-cosine positions of a (T, H, W) grid, a third of the width for each axis, as in V-JEPA's
    configurations (``uniform_power``): ``2 ceil(dim / 6)`` values for time, then height, then width, cut to ``dim``.

    Args:
        grid: tokens along time, height and width.
        dim: width; even.
        temperature: frequencies fall from 1 to about ``1 / temperature`` radians per token; small ones tell the few
            positions of a small grid apart better.

    Returns:
        float32 [T * H * W, dim], t-major.

    Raises:
        ValueError: ``dim`` is odd.
    """
    if dim % 2:
        raise ValueError(f"sine-cosine positions need an even width; got {dim}")
    t, h, w = grid
    share = 2 * math.ceil(dim / 6)
    time = _axis(t, share, temperature)[:, None, None].expand(t, h, w, -1)
    rows = _axis(h, share, temperature)[None, :, None].expand(t, h, w, -1)
    columns = _axis(w, share, temperature)[None, None, :].expand(t, h, w, -1)
    return torch.cat([time, rows, columns], dim=-1).reshape(t * h * w, -1)[:, :dim].contiguous()


def sinusoid_positions(count: int, dim: int) -> torch.Tensor:
    """Return VideoMAE's sine-cosine positions (arXiv 2203.12602), those of a sequence (arXiv 1706.03762): token n has
    ``sin`` and ``cos`` of ``n / 10000 ** (2 i / dim)`` as its values ``2 i`` and ``2 i + 1``.

    Tokens are counted through the whole grid, so that a step in time is ``H * W`` steps of the count.

    Args:
        count: number of tokens.
        dim: width.

    Returns:
        float32 [count, dim], the table of transformers' ``VideoMAEModel``.
    """
    pair = torch.arange(dim, dtype=torch.float64) // 2
    angle = torch.arange(count, dtype=torch.float64)[:, None] / 10000.0 ** (2 * pair / dim)
    even = torch.arange(dim) % 2 == 0
    return torch.where(even, angle.sin(), angle.cos()).float()


def _axis(length: int, dim: int, temperature: float) -> torch.Tensor:
    """Return [length, dim]: sines, then cosines, of frequencies temperature ** (-2 i / dim)."""
    frequency = temperature ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()
