"""The memory layouts that kernels read in place, and copies where a tensor has another."""

import torch


def rows_contiguous(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` itself when the elements of a row lie side by side, or a copy in which they do."""
    return x if x.stride()[-1] == 1 or x.shape[-1] == 1 else x.contiguous()


def interleaved(frames: torch.Tensor) -> torch.Tensor:
    """Return the frames [..., W, 3] with the colours of a pixel and the pixels of a row side by side, copied if not."""
    return frames if frames.stride(-1) == 1 and frames.stride(-2) == 3 else frames.contiguous()
