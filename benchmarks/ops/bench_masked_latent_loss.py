"""The masked latent loss at a ViT's size, against the published code and against Inductor."""

import torch
import torch.nn.functional as F

from benchmarks.harness import byte_model
from benchmarks.harness.timing import Variant
from benchmarks.harness.workloads import WORKLOADS as WORKLOADS
from benchmarks.harness.workloads import drawn
from fastvid.ops import masked_latent_loss


def published(pred, target, masked):
    """Compute V-JEPA's and SALT-VLA's loss as published: normalise every token, gather with a repeated index,
    subtract.
    """
    target = F.layer_norm(target.float(), target.shape[-1:])
    target = torch.gather(target, 1, masked.unsqueeze(-1).repeat(1, 1, target.shape[-1]))
    return (pred - target).square().mean()


def gather_first(pred, target, masked):
    """Run the best plain PyTorch we know: gather narrow rows first, then normalise only those."""
    target = torch.take_along_dim(target, masked.unsqueeze(-1), dim=1).float()
    return F.mse_loss(pred.float(), F.layer_norm(target, target.shape[-1:]))


def test_masked_latent_loss(workload, device, kernel, record):
    torch.manual_seed(0)
    tokens, on_cpu, backend = workload.tokens, device.kind == "cpu", kernel("masked_latent_loss")
    N, M, D, size = tokens.total, tokens.masked, tokens.dim, workload.dtype.itemsize

    def passes(batch):
        """Return the least bytes. On a CPU the upstream scale of 1 is seen, and the stored gradient is the result."""
        forward = byte_model.masked_latent_loss_forward(batch, M, D, pred_size=size, target_size=2)
        backward = byte_model.masked_latent_loss_backward(batch, M, D, pred_size=size, scaled=not on_cpu)
        return {"forward": forward, "backward": backward, "forward + backward": forward + backward}

    B = workload.batch or device.batch_over_l2(passes(1)["backward"])
    pred = torch.randn(B, M, D, device=device.kind).to(workload.dtype).requires_grad_()
    target = torch.randn(B, N, D, device=device.kind).bfloat16()
    masked, one = drawn(B, N, M, device.kind), torch.ones((), device=device.kind)
    compiled = torch.compile(gather_first, dynamic=False)

    def fastvid(*tensors):
        return masked_latent_loss(*tensors, kind="mse", normalize_target=True, backend=backend)

    def variant(loss):
        return Variant(lambda: loss(pred, target, masked), inputs=[pred], upstream=one)

    record(
        f"masked_latent_loss, {workload}",
        {
            "fastvid": variant(fastvid),
            "eager as published": variant(published),
            "compiled gather-first": variant(compiled),
        },
        tolerance=1e-4 if on_cpu else 1e-2,
        least_bytes=passes(B),
        rounds=9,
    )


def test_weighted_masked_latent_loss(workload, device, kernel, record):
    """A weight for each token, as a loss on visible tokens has; the upstream scale is another pass on a CPU too."""
    torch.manual_seed(0)
    tokens, backend = workload.tokens, kernel("masked_latent_loss")
    N, M, D, size = tokens.total, tokens.masked, tokens.dim, workload.dtype.itemsize

    def passes(batch):
        forward = byte_model.masked_latent_loss_forward(batch, M, D, pred_size=size, target_size=2, weight=True)
        backward = byte_model.masked_latent_loss_backward(batch, M, D, pred_size=size)
        return {"forward": forward, "backward": backward, "forward + backward": forward + backward}

    B = workload.batch or device.batch_over_l2(passes(1)["backward"])
    pred = torch.randn(B, M, D, device=device.kind).to(workload.dtype).requires_grad_()
    target = torch.randn(B, N, D, device=device.kind).bfloat16()
    masked, one = drawn(B, N, M, device.kind), torch.ones((), device=device.kind)
    weight = torch.rand(B, M, device=device.kind)

    def plain(pred, target, masked):
        target = torch.take_along_dim(target, masked.unsqueeze(-1), dim=1).float()
        rows = (pred.float() - F.layer_norm(target, target.shape[-1:])).square().mean(-1)
        return (weight * rows).sum() / weight.sum()

    def fastvid(*tensors):
        return masked_latent_loss(*tensors, kind="mse", normalize_target=True, weight=weight, backend=backend)

    compiled = torch.compile(plain, dynamic=False)

    def variant(loss):
        return Variant(lambda: loss(pred, target, masked), inputs=[pred], upstream=one)

    record(
        f"masked_latent_loss weighted, {workload}",
        {"fastvid": variant(fastvid), "eager": variant(plain), "compiled gather-first": variant(compiled)},
        tolerance=1e-4 if device.kind == "cpu" else 1e-2,
        least_bytes=passes(B),
        rounds=9,
    )
