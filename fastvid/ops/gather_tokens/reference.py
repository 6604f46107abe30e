"""The definition of token gathering in plain PyTorch."""

import torch


def gather_tokens(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """x [B, N, D], index int64 [B, K] -> [B, K, D]."""
    return torch.take_along_dim(x, index.unsqueeze(-1), dim=1)
