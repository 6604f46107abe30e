"""Crops of all objects of all frames, without a loop over objects."""

import numpy as np
import torch

from fastvid.ops import foveated_glimpse

CONTEXT = 1.5  # side of a crop, as a multiple of the longer side of the object's box


def cut_crops(
    frames: np.ndarray | torch.Tensor,
    frame: np.ndarray,
    boxes: np.ndarray,
    *,
    size: int,
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
    std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Cut a square around each object and resample it to one size.

    Frames with as many objects go into one call of :func:`fastvid.ops.foveated_glimpse`, so nothing is padded and the
    number of calls is that of different counts.

    Args:
        frames: uint8 [F, H, W, 3].
        frame: int64 [N], the frame of each object, ascending.
        boxes: float32 [N, 4], left, top, right and bottom as fractions of the frame.
        size: side of the resampled crop.
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel standard deviation.
        device: where crops are computed.

    Returns:
        float32 [N, 3, size, size] on the device, normalised.
    """
    if np.any(np.diff(frame) < 0):
        raise ValueError("objects must be ordered by their frame")
    pixels = torch.as_tensor(frames)
    F, H, W, _ = pixels.shape
    low, high = boxes[:, :2], boxes[:, 2:]
    side = ((high - low) * np.array([W, H], np.float32)).max(1, initial=1.0) * CONTEXT
    center, scale = torch.from_numpy(low + high - 1).to(device), torch.from_numpy(side / min(H, W)).to(device)
    count = np.bincount(frame, minlength=F)
    start = np.cumsum(count) - count
    out = torch.empty((len(frame), 3, size, size), device=device)
    for objects in np.unique(count[count > 0]):
        rows = np.flatnonzero(count == objects)
        which = torch.from_numpy(start[rows, None] + np.arange(objects)).to(device)  # [n, objects]
        clip = pixels[torch.from_numpy(rows)].to(device)[None]
        glimpses = foveated_glimpse(
            clip, center[which][None], scale[which][None], size=size, levels=1, mean=mean, std=std
        )
        out[which.reshape(-1)] = glimpses.reshape(-1, 3, size, size)
    return out
