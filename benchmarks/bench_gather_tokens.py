"""Picking tokens and scattering their gradient, against torch.gather with an expanded index."""

import torch

from fastvid.ops import gather_tokens

B, N, D, K = 16, 1568, 768, 392


def test_gather_tokens(record):
    torch.manual_seed(0)
    x = torch.randn(B, N, D, requires_grad=True)
    index = torch.stack([torch.randperm(N)[:K].sort().values for _ in range(B)])
    upstream = torch.randn(B, K, D)

    def step(backend):
        x.grad = None
        gather_tokens(x, index, backend=backend).backward(upstream)
        return x.grad

    assert torch.equal(step("native"), step("reference"))
    record(
        "gather_tokens, fwd + bwd",
        {"fastvid": lambda: step("native"), "torch.gather": lambda: step("reference")},
        floors={"torch.gather": 1.5},
        least_bytes=4 * D * B * (K + K + K + N),  # rows read and written, upstream read, gradient written
    )
