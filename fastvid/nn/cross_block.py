"""A transformer block whose queries attend to a context and not to each other."""

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import nn


class CrossBlock(nn.Module):
    """Pre-norm cross-attention and MLP, as in the decoder of CrossMAE (arXiv 2401.14391).

    With M queries and V context tokens its matrices cost ``(10 M + 2 V) width**2`` multiplications, where those of a
    block of self-attention over both cost ``12 (M + V) width**2``, and its attention is [M, V] instead of
    [M + V, M + V].

    Args:
        width: width of queries and context.
        heads: attention heads; divide ``width``.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Map x [B, M, width] and normalised context [B, V, width] to [B, M, width]."""
        query = self.query(self.norm1(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, M, head]
        key, value = self.key_value(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + self.proj(seen)
        return x + self.mlp(self.norm2(x))
