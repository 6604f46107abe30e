"""The point of the frame where a glimpse is taken, from the token that a query attended to most."""

import math

import torch

from fastvid.ops import _checks
from fastvid.ops._autograd import readable_value


def peak_to_center(peak: torch.Tensor, grid: tuple[int, ...], *, prefix: int = 0) -> torch.Tensor:
    """Return the centres, in the frame, of the patches at the attention peaks.

    Tokens are counted ``prefix + (t * H + h) * W + w``; the patch in column ``w`` of ``W`` has its centre at
    ``x = (2 w + 1) / W - 1``, and rows give ``y`` likewise. The time ``t`` does not affect the result.

    Args:
        peak: int64 [...], token indices in [0, prefix + tokens of the grid), as :func:`query_attend` returns them.
        grid: tokens (H, W) or (T, H, W).
        prefix: tokens before the grid's, such as CLS and registers. They have no place in the frame: a peak on one of
            them gives the frame's centre, (0, 0).

    Returns:
        float32 [..., 2], (x, y) in [-1, 1]: -1 and 1 are the frame's edges, y grows downwards.

    Raises:
        TypeError: peak is not int64.
        ValueError: a grid that is not two or three positive sizes; a negative prefix.
        IndexError: a peak outside the tokens (checked on CPU, outside torch.compile).

    Example:
        >>> out, entropy, peak = query_attend(query, key, value, return_stats=True)
        >>> center = peak_to_center(peak, (16, 16), prefix=1)
    """
    _checks.tensors("peak_to_center", peak=peak)
    _checks.index_dtype("peak_to_center", "peak", peak)
    if len(grid) not in (2, 3) or min(grid) < 1:
        raise ValueError(f"peak_to_center: grid must be (H, W) or (T, H, W), each at least 1; got {tuple(grid)}")
    if prefix < 0:
        raise ValueError(f"peak_to_center: prefix counts the tokens before the grid's, at least 0; got {prefix}")
    # On a GPU looking at the values would wait for them.
    if not torch.compiler.is_compiling() and peak.is_cpu and peak.numel():
        low, high, tokens = readable_value(peak.min()), readable_value(peak.max()), prefix + math.prod(grid)
        if low is not None and high is not None and (low < 0 or high >= tokens):
            raise IndexError(f"peak_to_center: peak holds {low if low < 0 else high}, outside [0, {tokens})")
    H, W = grid[-2:]
    cell = (peak - prefix) % (H * W)
    x = (2 * (cell % W) + 1).float() / W - 1
    y = (2 * (cell // W) + 1).float() / H - 1
    return torch.stack([x, y], dim=-1) * (peak >= prefix).unsqueeze(-1)
