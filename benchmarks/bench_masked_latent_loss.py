"""Forward and backward of the masked latent loss at a ViT-B's size, against the published code and against Inductor."""

import pytest
import torch
import torch.nn.functional as F

from fastvid.ops import masked_latent_loss

B, N, D, M = 16, 1568, 768, 1176


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(0)
    pred = torch.randn(B, M, D, requires_grad=True)
    target = torch.randn(B, N, D).bfloat16()
    masked = torch.stack([torch.randperm(N)[:M].sort().values for _ in range(B)])
    return pred, target, masked


def published(pred, target, masked):
    """V-JEPA's and SALT-VLA's loss as published: normalise every token, gather with a repeated index, subtract."""
    target = F.layer_norm(target.float(), (D,))
    target = torch.gather(target, 1, masked.unsqueeze(-1).repeat(1, 1, D))
    return (pred - target).square().mean()


def gather_first(pred, target, masked):
    """The best plain PyTorch we know: gather narrow rows first, then normalise only those."""
    target = torch.take_along_dim(target, masked.unsqueeze(-1), dim=1).float()
    return F.mse_loss(pred, F.layer_norm(target, (D,)))


def test_masked_latent_loss(tensors, record):
    pred, target, masked = tensors
    compiled = torch.compile(gather_first)

    def fastvid(*tensors):
        return masked_latent_loss(*tensors, kind="mse", normalize_target=True, backend="native")

    def step(loss):
        pred.grad = None
        loss(pred, target, masked).backward()
        return pred.grad

    expected, got = step(published), step(fastvid)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(step(compiled), expected, rtol=1e-4, atol=1e-9)
    record(
        "masked_latent_loss, fwd + bwd",
        {
            "fastvid": lambda: step(fastvid),
            "eager as published": lambda: step(published),
            "compiled gather-first": lambda: step(compiled),
        },
        floors={"eager as published": 10, "compiled gather-first": 1.2},
        least_bytes=B * M * D * (4 + 2 + 4),  # pred and targets read, gradient written
        rounds=9,
    )
