"""The memory layouts that kernels read in place. Tensors in other layouts are copied."""

import torch


def rows_contiguous(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` itself when each of its rows is contiguous, or else a contiguous copy."""
    return x if x.stride()[-1] == 1 or x.shape[-1] == 1 else x.contiguous()


def interleaved(frames: torch.Tensor) -> torch.Tensor:
    """Return frames [..., W, 3] with contiguous pixels and rows, copied if they are not."""
    return frames if frames.stride(-1) == 1 and frames.stride(-2) == 3 else frames.contiguous()
