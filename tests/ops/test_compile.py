"""torch.compile sees one opaque op per call: no graph breaks, no recompiles, the same numbers as eager."""

import pytest
import torch

from fastvid.ops import (
    MaskSpec,
    covariance_penalty,
    gather_tokens,
    gather_tubelets,
    mask_distance,
    masked_latent_loss,
    multiblock_mask,
    sample_id,
    variance_penalty,
)


def step(clip, ids, weight, target, draw: int, backend: str):
    """All ops in one training step; returns the loss."""
    visible, masked = multiblock_mask(
        ids, (2, 4, 4), masked=20, visible=12, spec=MaskSpec.salt(), seed=3, draw=draw, backend=backend
    )
    tokens = gather_tubelets(clip, visible, patch=8, backend=backend) @ weight
    spread = torch.nn.functional.pad(tokens, (0, 0, 0, masked.shape[1]))
    every = torch.arange(masked.shape[1]).expand(len(ids), -1)
    pred = gather_tokens(spread, every, backend=backend)
    weight = 1 / mask_distance(visible, (2, 4, 4)).gather(1, masked).sqrt()
    loss = masked_latent_loss(
        pred, target, masked, kind="smooth_l1", normalize_target=True, weight=weight, backend=backend
    )
    return loss * 2 + 0.1 * variance_penalty(pred) + 0.1 * covariance_penalty(pred)


def inputs(batch):
    clip = torch.randint(256, (batch, 4, 32, 32, 3), dtype=torch.uint8)
    ids = torch.tensor([sample_id(str(i)) for i in range(batch)])
    return clip, ids, torch.randn(3 * 2 * 64, 16) * 0.05, torch.randn(batch, 32, 16)


@pytest.mark.parametrize("backend", ["auto", "native"])
def test_a_whole_step_compiles_to_one_graph_with_equal_results(backend):
    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=True)
    for batch, draw in ((3, 7), (5, 8), (4, 9)):
        clip, ids, weight, target = inputs(batch)
        grads, losses = [], []
        for function in (step, compiled):
            leaf = weight.clone().requires_grad_()
            loss = function(clip, ids, leaf, target, draw, backend)
            loss.backward()
            losses.append(loss.detach())
            grads.append(leaf.grad)
        torch.testing.assert_close(losses[1], losses[0])
        torch.testing.assert_close(grads[1], grads[0], rtol=1e-4, atol=1e-6)


def test_a_changing_draw_does_not_recompile():
    torch.compiler.reset()
    clip, ids, weight, target = inputs(3)
    compiled = torch.compile(step, fullgraph=True, dynamic=True)
    compiled(clip, ids, weight, target, 2, "auto")
    compiled(clip, ids, weight, target, 3, "auto")
    with torch.compiler.set_stance("fail_on_recompile"):
        for draw in (4, 100, 2**31):
            compiled(clip, ids, weight, target, draw, "auto")


def test_references_compile_too():
    torch.compiler.reset()
    ids = torch.tensor([3, 4])

    def masks(ids):
        return multiblock_mask(ids, (2, 4, 4), masked=8, visible=8, seed=1, draw=2, backend="reference")

    for a, b in zip(torch.compile(masks, fullgraph=True, dynamic=True)(ids), masks(ids), strict=True):
        assert torch.equal(a, b)

    def loss(pred, x, masked):
        return masked_latent_loss(pred, gather_tokens(x, masked, backend="reference"), masked % 3, backend="reference")

    pred, x = torch.randn(2, 3, 8), torch.randn(2, 6, 8)
    masked = torch.tensor([[0, 2, 5], [1, 3, 4]])
    compiled = torch.compile(loss, fullgraph=True)
    torch.testing.assert_close(compiled(pred, x, masked), loss(pred, x, masked))
