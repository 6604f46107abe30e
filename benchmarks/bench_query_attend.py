"""A foveated model's glimpse: one query per frame over a ViT's cached tokens, with entropy and peak.

Against PyTorch's fused attention, which has no statistics, and against the eager softmax that writes the weights.
"""

import pytest
import torch
import torch.nn.functional as F

from fastvid.ops import query_attend

FRAMES, DIM = 128, 64  # B * T of 16 clips of 8 frames


def tensors(heads, tokens, queries=1):
    """Projections [B, N, h, d] seen as [B, h, N, d]; the incoming gradient last."""
    torch.manual_seed(0)
    key, value = (torch.randn(FRAMES, tokens, heads, DIM).transpose(1, 2) for _ in range(2))
    query, grad = (torch.randn(FRAMES, queries, heads, DIM).transpose(1, 2) for _ in range(2))
    return [x.requires_grad_() for x in (query, key, value)], grad


def fastvid(query, key, value):
    return query_attend(query, key, value, return_stats=True, backend="native")


def sdpa(query, key, value):
    return F.scaled_dot_product_attention(query, key, value), None, None


def eager(query, key, value):
    """What user code does to see where a query looks."""
    scores = query @ key.mT * DIM**-0.5
    weights = scores.softmax(-1)
    return weights @ value, -(weights * (weights + 1e-9).log()).sum(-1), weights.argmax(-1)


def backward(attend, leaves, grad):
    for leaf in leaves:
        leaf.grad = None
    attend(*leaves)[0].backward(grad)
    return [leaf.grad for leaf in leaves]


def check(leaves, grad):
    """All sides compute the same, statistics and gradients included."""
    (out, entropy, peak), (expected, expected_entropy, expected_peak) = fastvid(*leaves), eager(*leaves)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sdpa(*leaves)[0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(entropy, expected_entropy, rtol=1e-4, atol=1e-5)
    assert (peak == expected_peak).float().mean() > 0.999  # scores that are equal but for rounding
    for got, *others in zip(*(backward(side, leaves, grad) for side in (fastvid, sdpa, eager)), strict=True):
        for other in others:
            torch.testing.assert_close(got, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("heads", "tokens"), [(12, 257), (12, 325), (3, 257), (3, 325)])
def test_forward(heads, tokens, record):
    leaves, grad = tensors(heads, tokens)
    check(leaves, grad)
    leaves = [x.detach() for x in leaves]
    record(
        f"query_attend {heads} heads {tokens}, fwd",
        {
            "fastvid": lambda: fastvid(*leaves),
            "sdpa without statistics": lambda: sdpa(*leaves),
            "eager": lambda: eager(*leaves),
        },
        floors={"sdpa without statistics": 1.1, "eager": 2},
        least_bytes=2 * FRAMES * heads * tokens * DIM * 4,  # key and value read
        rounds=9,
    )


@pytest.mark.parametrize(("heads", "tokens"), [(12, 257), (3, 325)])
def test_forward_and_backward(heads, tokens, record):
    leaves, grad = tensors(heads, tokens)
    check(leaves, grad)
    record(
        f"query_attend {heads} heads {tokens}, fwd + bwd",
        {
            "fastvid": lambda: backward(fastvid, leaves, grad),
            "sdpa without statistics": lambda: backward(sdpa, leaves, grad),
            "eager": lambda: backward(eager, leaves, grad),
        },
        floors={"sdpa without statistics": 1.1, "eager": 2},
        least_bytes=6 * FRAMES * heads * tokens * DIM * 4,  # key and value read twice, their gradients written
        rounds=7,
    )
