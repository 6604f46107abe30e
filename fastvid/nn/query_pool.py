"""Pooling tokens by attention: a few queries look over many tokens."""

import torch
from torch import nn

from fastvid.ops import query_attend

Cache = tuple[torch.Tensor, torch.Tensor]


class QueryPool(nn.Module):
    """Pools tokens [B, N, D] into one token per query by multi-head cross-attention.

    The queries are learnt, or given at the call: a decoder that asks for a glimpse. Tokens that several query sets read
    (coarse, then fine) are projected once by :meth:`cache`.

    Learnt queries start at N(0, 1) and their projection has no bias: with small queries or a shared bias all queries
    start out alike, attention starts uniform, and neither leaves that state soon.

    Args:
        dim: width of tokens, queries and outputs; divisible by ``heads``.
        heads: attention heads.
        queries: learnt queries; 0 for none.
        bias: whether the key, value and output projections have one.
    """

    def __init__(self, dim: int, heads: int, queries: int = 1, *, bias: bool = True):
        super().__init__()
        if dim % heads:
            raise ValueError(f"query pool: width {dim} is not divisible by {heads} heads")
        if queries < 0:
            raise ValueError(f"query pool: queries must be at least 0; got {queries}")
        self.dim, self.heads = dim, heads
        self.queries = nn.Parameter(torch.randn(queries, dim)) if queries else None
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)

    def cache(self, tokens: torch.Tensor) -> Cache:
        """Compute the key and value [B, heads, N, D / heads] of tokens [B, N, D], to pass to :meth:`forward` in
        their place.
        """
        if tokens.ndim != 3 or tokens.shape[-1] != self.dim:
            raise ValueError(f"query pool: expected tokens [B, N, {self.dim}]; got {tuple(tokens.shape)}")
        key, value = self.key_value(tokens).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return key.transpose(1, 2), value.transpose(1, 2)

    def forward(
        self, tokens: torch.Tensor | Cache, queries: torch.Tensor | None = None, *, return_stats: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pool tokens [B, N, D], or the result of :meth:`cache`, to [B, Q, D].

        Queries [B, Q, D], or [B, S, Q, D] for S sets at once, replace the learnt ones and give the result their shape.
        With ``return_stats`` also the attention's entropy, in nats, and its peak, [B, heads, Q] or [B, S, heads, Q]:
        see :func:`fastvid.ops.query_attend`.
        """
        key, value = self.cache(tokens) if isinstance(tokens, torch.Tensor) else tokens
        if queries is None:
            if self.queries is None:
                raise ValueError("query pool: it has no learnt queries, so they must be given")
            query = self.query(self.queries).expand(len(key), -1, -1)
        else:
            if queries.ndim not in (3, 4) or queries.shape[0] != len(key) or queries.shape[-1] != self.dim:
                raise ValueError(
                    f"query pool: expected queries [{len(key)}, Q, {self.dim}] or [{len(key)}, S, Q, {self.dim}]; got "
                    f"{tuple(queries.shape)}"
                )
            query = self.query(queries)
        query = query.unflatten(-1, (self.heads, -1)).transpose(-3, -2)  # [B, heads, Q, d] or [B, S, heads, Q, d]
        if not return_stats:
            return self._merge(query_attend(query, key, value))
        out, entropy, peak = query_attend(query, key, value, return_stats=True)
        return self._merge(out), entropy, peak

    def _merge(self, out: torch.Tensor) -> torch.Tensor:
        return self.out(out.transpose(-3, -2).flatten(-2))
