"""Two processes with FSDP train SALT's module as one process does."""

import torch

from fastvid.models import VideoViT
from fastvid.models.vit import VideoViTConfig
from fastvid.nn import LayerFusion, Predictor, PredictorConfig
from fastvid.projects.salt.model import MaskedPrediction
from fastvid.train.parallel import make_mesh
from fastvid.train.sharded import Sharded
from tests.processes import together

ENCODER = VideoViTConfig(name="vit_tiny_patch16_224", frames=4, size=32, width=32, depth=3, heads=2, init="mimetic")
BATCH, TOKENS, LAYERS = 4, 8, (1, 3)


def salt():
    """All that is SALT's own: several layers fused, a head for visible tokens, mask tokens, recomputed blocks."""
    torch.manual_seed(0)
    encoder = VideoViT(ENCODER)
    predictor = Predictor(
        32, len(LAYERS) * 32, encoder.grid, PredictorConfig(width=32, depth=2, heads=2), mask_tokens=2, context=True
    )
    encoder.checkpointing = predictor.checkpointing = True
    return MaskedPrediction(encoder, predictor, LAYERS, LayerFusion(32, len(LAYERS)))


def train(module, rows, parameters):
    """Make three updates with some rows of a fixed batch."""
    random = torch.Generator().manual_seed(1)
    clips = torch.randint(256, (BATCH, 4, 32, 32, 3), dtype=torch.uint8, generator=random)[rows]
    targets = torch.randn(BATCH, TOKENS, len(LAYERS) * 32, generator=random)[rows]
    orders = [torch.rand(BATCH, TOKENS, generator=random).argsort(1)[rows] for _ in range(2)]
    optimizer = torch.optim.SGD(parameters, lr=0.1)  # Adam would make updates of the rounding of gradients that are 0
    for _ in range(3):
        predicted = module(clips, [(order[:, 5:], order[:, :5]) for order in orders])
        losses = [(each - targets.gather(1, order.unsqueeze(2).expand_as(targets))).square().mean()
                  for each, order in zip(predicted, orders, strict=True)]  # fmt: skip
        torch.stack(losses).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def in_two(world, folder):
    module = salt()
    sharded = Sharded(module, make_mesh(world, "fsdp", None), dtype=None, compile=False)
    train(sharded.called, slice(world.rank, None, world.size), sharded.trained.parameters())
    sharded.finish()
    if world.is_main:
        torch.save(module.state_dict(), folder / "weights.pt")


def test_two_processes_with_fsdp_are_one(tmp_path):
    together(2, in_two, tmp_path)
    module, begun = salt(), salt().state_dict()
    train(module, slice(None), module.parameters())
    sharded = torch.load(tmp_path / "weights.pt")
    for name, weight in module.state_dict().items():
        assert torch.allclose(sharded[name], weight, rtol=1e-4, atol=1e-5), name
    for part in ("fusion.", "predictor.context", "predictor.mask", "encoder.blocks.0"):
        moved = [not torch.equal(begun[name], value) for name, value in sharded.items() if name.startswith(part)]
        assert any(moved), part
