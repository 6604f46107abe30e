"""Distance of every token of a grid to the masked ones: an exact Euclidean transform in plain PyTorch."""

import torch

from fastvid.ops import _checks
from fastvid.ops._autograd import readable_value


def mask_distance(masked: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """Compute each token's Euclidean distance to the nearest masked token, in steps of the (T, H, W) grid.

    One axis is taken at a time, since the square of the distance is a sum over the axes (Felzenszwalb and Huttenlocher,
    2012): work and memory grow with ``B * T * H * W * max(T, H, W)``, not with visible times masked tokens, and nothing
    waits for the device. It is the distance by which V-JEPA 2.1 (arXiv 2603.14482) weighs its loss on visible tokens.

    Args:
        masked: int64 [B, M], token indices ``(t * H + h) * W + w``.
        grid: (T, H, W) tokens.

    Returns:
        float32 [B, T * H * W]: 0 at masked tokens, at least 1 elsewhere, infinite where no token is masked.

    Raises:
        TypeError: ``masked`` is not an int64 tensor.
        ValueError: it is not [B, M], or the grid is not three positive sizes.
        IndexError: an index outside the grid (checked on CPU; on a GPU the row's distances are NaN).

    Example:
        >>> visible, masked = multiblock_mask(ids, grid, masked=1176, visible=392, seed=0, draw=step)
        >>> weight = mask_distance(masked, grid).gather(1, visible).rsqrt()
    """
    name = "mask_distance"
    _checks.tensors(name, masked=masked)
    _checks.index_dtype(name, "masked", masked)
    if masked.ndim != 2:
        raise ValueError(f"{name}: masked must be [B, M], got {tuple(masked.shape)}")
    if len(grid) != 3 or min(grid) < 1:
        raise ValueError(f"{name}: grid must be (T, H, W), each at least 1; got {tuple(grid)}")
    tokens = grid[0] * grid[1] * grid[2]
    known = (masked >= 0) & (masked < tokens)
    if masked.is_cpu and readable_value(known.all()) is False:
        raise _checks.index_error(name, "masked", masked, int(known.flatten().int().argmin()), tokens)
    squares = torch.full((len(masked), tokens), float("inf"), device=masked.device)
    squares = squares.scatter(1, masked.clamp(0, tokens - 1), 0.0).view(-1, *grid)
    for axis, length in enumerate(grid, 1):
        place = torch.arange(length, device=masked.device, dtype=torch.float32)
        steps = (place.unsqueeze(1) - place).square()  # [to, from]
        squares = (squares.movedim(axis, -1).unsqueeze(-2) + steps).amin(-1).movedim(-1, axis)
    distance = squares.flatten(1).sqrt()
    return torch.where(known.all(1, keepdim=True), distance, float("nan"))
