"""A foveated model's glimpse: one query per frame over a ViT's cached tokens, with entropy and peak.

Against PyTorch's fused attention, which has no statistics, and against what user code does to have them: a softmax
that writes the weights, one layer after the other.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from benchmarks.harness import byte_model
from benchmarks.harness.timing import Variant
from fastvid.ops import query_attend

FRAMES, DIM = 128, 64  # B * T of 16 clips of 8 frames


class Cache(NamedTuple):
    """Tokens of DINO-like ViTs, one query each; ``layers`` caches lie side by side and are attended in one call."""

    heads: int
    tokens: int
    layers: int
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"h{self.heads} N{self.tokens}" + (f", {self.layers} layers" if self.layers > 1 else "")


_SIZES = [(12, 257), (12, 325), (3, 257), (3, 325)]
WORKLOADS = {
    "cpu": [Cache(heads, tokens, 1, torch.float32) for heads, tokens in _SIZES],
    "cuda": [Cache(heads, tokens, 12, torch.bfloat16) for heads, tokens in _SIZES],
}


def sdpa(query, key, value):
    return F.scaled_dot_product_attention(query, key, value)


def with_weights(query, key, value):
    """Run what user code does to see where a query looks."""
    weights = (query @ key.mT * DIM**-0.5).float().softmax(-1)
    entropy = -(weights * (weights + 1e-9).log()).sum(-1)
    return weights.to(value.dtype) @ value, entropy, weights.argmax(-1)


def per_layer(attend, layers):
    """Run the same for each layer in a Python loop, as models do."""
    if layers == 1:
        return attend

    def call(*tensors):
        found = [attend(*layer) for layer in zip(*(x.split(FRAMES) for x in tensors), strict=True)]
        return tuple(torch.cat(results) for results in zip(*found, strict=True))

    return call


def test_query_attend(workload, device, kernel, record):
    torch.manual_seed(0)
    B, H, N, size = workload.layers * FRAMES, workload.heads, workload.tokens, workload.dtype.itemsize
    backend, exact = kernel("query_attend"), workload.dtype == torch.float32

    def projected(tokens):
        """View a projection [B, tokens, h, d] as [B, h, tokens, d]."""
        return torch.randn(B, tokens, H, DIM, device=device.kind).to(workload.dtype).transpose(1, 2)

    leaves = [projected(n).requires_grad_() for n in (1, N, N)]
    upstream = projected(1)
    loop = per_layer(with_weights, workload.layers)
    forward = byte_model.query_attend_forward(B, H, N, DIM, size=size)
    backward = byte_model.query_attend_backward(B, H, N, DIM, size=size)

    def fastvid(*tensors):
        return query_attend(*tensors, return_stats=True, backend=backend)

    def gate():
        """Check that entropy and peak are those of user code; the recorder compares outputs and gradients."""
        _, entropy, peak = fastvid(*leaves)
        _, expected, expected_peak = loop(*leaves)
        torch.testing.assert_close(entropy, expected, rtol=1e-4, atol=1e-5 if exact else 2e-2)
        equal = (peak == expected_peak).float().mean()  # scores may differ by rounding alone, user code's to bfloat16
        assert equal > (0.999 if exact else 0.9), f"{equal:.1%} of the peaks are those of user code"

    def first(attend):
        return Variant(lambda: attend(*leaves)[0], inputs=leaves, upstream=upstream)

    variants = {
        "fastvid": first(fastvid),
        "SDPA without statistics": Variant(lambda: sdpa(*leaves), inputs=leaves, upstream=upstream),
        "softmax, layer by layer": first(loop),
    }
    if device.kind == "cuda":
        compiled = per_layer(torch.compile(with_weights, dynamic=False), workload.layers)
        variants["compiled softmax, layer by layer"] = first(compiled)
    record(
        f"query_attend, {workload}",
        variants,
        gate=gate,
        tolerance=1e-4 if exact else 2e-2,
        least_bytes={"forward": forward, "backward": backward, "forward + backward": forward + backward},
        rounds=9,
    )
