"""Picking tokens and scattering their gradient, against torch.gather, eager and compiled."""

import torch

from benchmarks.harness import byte_model
from benchmarks.harness.timing import Variant
from benchmarks.harness.workloads import WORKLOADS as WORKLOADS
from benchmarks.harness.workloads import drawn
from fastvid.ops import gather_tokens


def published(x, index):
    """Run V-JEPA's apply_masks: the index is repeated in memory for every dimension."""
    return torch.gather(x, 1, index.unsqueeze(-1).repeat(1, 1, x.shape[2]))


def expanded(x, index):
    """Run the same without the repetition."""
    return torch.gather(x, 1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]))


def test_gather_tokens(workload, device, kernel, record):
    torch.manual_seed(0)
    tokens, backend = workload.tokens, kernel("gather_tokens")
    N, K, D, size = tokens.total, tokens.visible, tokens.dim, workload.dtype.itemsize

    def passes(batch):
        forward = byte_model.gather_tokens(batch, K, D, size=size)
        backward = byte_model.scatter_tokens(batch, N, K, D, size=size)
        return {"forward": forward, "backward": backward, "forward + backward": forward + backward}

    B = workload.batch or device.batch_over_l2(passes(1)["forward"])
    x = torch.randn(B, N, D, device=device.kind).to(workload.dtype).requires_grad_()
    upstream = torch.randn(B, K, D, device=device.kind).to(workload.dtype)
    index = drawn(B, N, K, device.kind)

    def variant(gather):
        return Variant(lambda: gather(x, index), inputs=[x], upstream=upstream)

    variants = {
        "fastvid": variant(lambda x, index: gather_tokens(x, index, backend=backend)),
        "torch.gather": variant(expanded),
    }
    if device.kind == "cuda":
        variants["eager as published"] = variant(published)
        variants["compiled torch.gather"] = variant(torch.compile(expanded, dynamic=False))
    record(f"gather_tokens, {workload}", variants, tolerance=0, least_bytes=passes(B))
