"""The definition of query attention in plain PyTorch. It writes the weights to memory, which the kernels do not."""

import torch


def query_attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Map query [B, S, h, Q, d], key and value [B, h, N, d] to out [B, S, h, Q, d], entropy and peak [B, S, h, Q].

    A query [B, h, Q, d] gives results without S. Computed in float32; float64 inputs stay float64, entropy included.
    """
    compute = torch.float64 if query.dtype == torch.float64 else torch.float32
    if query.ndim == 4:
        out, entropy, peak = query_attend(query.unsqueeze(1), key, value, scale)
        return out.squeeze(1), entropy.squeeze(1), peak.squeeze(1)
    B, S, h, Q, d = query.shape
    rows = query.to(compute).transpose(1, 2).reshape(B, h, S * Q, d)  # the queries of a (b, h) share its keys
    scores = (rows * scale) @ key.to(compute).mT  # [B, h, S * Q, N]
    weights = scores.softmax(-1)
    out = weights @ value.to(compute)
    log_weights = scores.log_softmax(-1).masked_fill(weights == 0, 0)  # 0 log 0 = 0
    entropy = -(weights * log_weights).sum(-1)

    def split(x: torch.Tensor) -> torch.Tensor:
        sets: torch.Tensor = x.unflatten(2, (S, Q))
        return sets.transpose(1, 2)

    return split(out).to(query.dtype).contiguous(), split(entropy).contiguous(), split(scores.argmax(-1)).contiguous()
