"""The definition of token gathering in plain PyTorch."""

import torch


def gather_tokens(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Map x [B, N, D] and index int64 [B, K] to [B, K, D]."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]))  # take_along_dim would wrap negative indices
