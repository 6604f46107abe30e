"""Sizes that users have, on a CPU and on a GPU."""

from typing import NamedTuple

import torch


class Tokens(NamedTuple):
    """A clip of 16 frames as a video ViT sees it: three quarters of the tokens are masked."""

    grid: tuple[int, int, int]  # (T, H, W) tokens
    dim: int

    @property
    def total(self) -> int:
        T, H, W = self.grid
        return T * H * W

    @property
    def masked(self) -> int:
        return self.total * 3 // 4

    @property
    def visible(self) -> int:
        return self.total - self.masked


VIT_B = Tokens((8, 14, 14), 768)
VIT_L = Tokens((8, 16, 16), 1024)


class Workload(NamedTuple):
    """One size of a benchmark; its name ends the benchmark's.

    ``batch`` None takes as many clips as it needs for the least bytes of each pass to be 8 times the card's L2 cache,
    so that a share of the memory's bandwidth means something.
    """

    name: str
    tokens: Tokens
    batch: int | None
    dtype: torch.dtype  # of activations

    def __str__(self) -> str:
        return self.name


# What most files run; by kind of device.
WORKLOADS = {
    "cpu": [Workload("ViT-B B16", VIT_B, 16, torch.float32)],
    "cuda": [
        Workload("ViT-B B32", VIT_B, 32, torch.bfloat16),
        Workload("ViT-L B24", VIT_L, 24, torch.bfloat16),
        Workload("ViT-L 8x L2", VIT_L, None, torch.bfloat16),
    ],
}


def drawn(batch: int, tokens: int, count: int, device: str) -> torch.Tensor:
    """Draw int64 [batch, count]: for each clip, count different tokens in ascending order."""
    picked = torch.stack([torch.randperm(tokens)[:count].sort().values for _ in range(batch)])
    return picked.to(device)
