"""The definition of foveated glimpses in plain PyTorch: one dense weight matrix per axis, two matrix products."""

import torch

from fastvid.ops._autocast import without_autocast


def foveated_glimpse(
    frames: torch.Tensor,
    center: torch.Tensor,
    scale: torch.Tensor,
    size: int,
    levels: int,
    level_ratio: float,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    padding: str,
    antialias: bool,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Map frames [B, T, H, W, 3], center [B, T, G, 2] and scale [B, T, G] to [B, T, G, levels, 3, size, size]."""
    wide = torch.float64 in (frames.dtype, center.dtype, scale.dtype, dtype)
    compute = torch.float64 if wide else torch.float32
    B, T, H, W, C = frames.shape
    G = center.shape[2]
    center, scale = center.to(compute), scale.to(compute)
    pixels = frames.to(compute) if frames.is_floating_point() else frames.to(compute) / 255
    pixels = (pixels - pixels.new_tensor(mean)) / pixels.new_tensor(std)

    growth = torch.pow(level_ratio, torch.arange(levels, dtype=compute, device=frames.device))
    scale = torch.where(scale > 0, scale, torch.nan)  # a crop that does not exist: NaN rather than a mirrored one
    side = scale.unsqueeze(-1) * (growth * min(H, W))  # [B, T, G, L] pixels
    x_weights = _axis_weights(center[..., 0], side, W, size, padding, antialias)  # [B, T, G, L, size, W]
    y_weights = _axis_weights(center[..., 1], side, H, size, padding, antialias)
    with without_autocast(frames.device):
        rows = y_weights.reshape(B, T, G * levels * size, H) @ pixels.reshape(B, T, H, W * C)
        rows = rows.reshape(B, T, G, levels, size, W, C)
        return torch.einsum("btglywc,btglxw->btglcyx", rows, x_weights).to(dtype)


def _axis_weights(
    center: torch.Tensor, side: torch.Tensor, extent: int, size: int, padding: str, antialias: bool
) -> torch.Tensor:
    """Return the weight of each pixel of an axis in each sample: side [B, T, G, L] to [B, T, G, L, size, extent].

    A sample's window [left, right] weighs a pixel by the share of the window that the pixel's cell covers.
    """
    index = torch.arange(size, dtype=side.dtype, device=side.device)
    middle = ((center + 1) * extent - 1) / 2
    u = middle[..., None, None] + ((index + 0.5) / size - 0.5) * side.unsqueeze(-1)  # [B, T, G, L, size]
    step = side / size
    width = torch.where(step > 1, step, 1.0) if antialias else torch.ones_like(step)
    left, right = u - width.unsqueeze(-1) / 2, u + width.unsqueeze(-1) / 2
    # `right - left` is the width as rounded at u: dividing by it, not by `width`, makes the weights sum to one.
    return (_covered(right, extent, padding) - _covered(left, extent, padding)) / (right - left).unsqueeze(-1)


def _covered(edge: torch.Tensor, extent: int, padding: str) -> torch.Tensor:
    """Return the length of each pixel's cell to the left of an edge: [...] to [..., extent].

    Its derivative is one in the cell that holds the edge (at a boundary, the cell to the right) and zero in the others.
    """
    pixel = torch.arange(extent, dtype=edge.dtype, device=edge.device)
    begin, end = pixel - 0.5, pixel + 0.5
    edge = edge.unsqueeze(-1)
    before, after = edge < begin, edge >= end
    if padding == "border":  # the outermost cells extend to infinity
        before, after = before & (pixel > 0), after & (pixel < extent - 1)
    return torch.where(before, 0.0, torch.where(after, 1.0, edge - begin))
