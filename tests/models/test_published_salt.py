"""The published step and fastvid's are the same function of the same weights: loss and every gradient."""

import pytest
import torch

from benchmarks.baselines import published_salt
from benchmarks.baselines.published_salt import PublishedEncoder, PublishedPredictor, fastvid_name
from fastvid.models import VideoViT, VideoViTConfig
from fastvid.nn import Predictor, PredictorConfig
from fastvid.ops import masked_latent_loss, multiblock_mask

CONFIG = VideoViTConfig(name="vit_tiny_patch16_224", frames=4, size=64, width=48, depth=2, heads=3)
GRID, VISIBLE, MASKED = (2, 4, 4), 8, 24


def scramble(module):
    """Biases and norms are no longer 0 and 1: nothing may hide behind them."""
    for parameter in module.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return module


@pytest.fixture(params=["sincos", "learned"])
def fastvid_modules(request):
    config = VideoViTConfig(**{**vars(CONFIG), "positions": request.param})
    student, teacher = scramble(VideoViT(config)), scramble(VideoViT(config)).requires_grad_(False)
    return (
        student,
        teacher,
        scramble(Predictor(48, 48, GRID, PredictorConfig(width=32, depth=2, heads=2, layout="dense"))),
    )


def compare(name, published, ours):
    # Sums of thousands of float32 terms in another order; relative to the tensor's largest element.
    largest = ours.abs().max().item()
    torch.testing.assert_close(
        published, ours.view_as(published), rtol=1e-4, atol=2e-5 * largest, msg=lambda m: name + m
    )


@pytest.mark.parametrize("layout", ["dense", "concat"])
def test_loss_and_every_gradient_agree(fastvid_modules, layout):
    student, teacher, predictor = fastvid_modules
    predictor.layout = layout
    clip = torch.randint(256, (2, 4, 64, 64, 3), dtype=torch.uint8)
    visible, masked = multiblock_mask(torch.arange(2), GRID, masked=MASKED, visible=VISIBLE, seed=0, draw=0)
    pred = predictor(student(clip, visible), visible, masked)
    ours = masked_latent_loss(pred, teacher(clip), masked, normalize_target=True)
    ours.backward()

    encoder, heads, fixed = PublishedEncoder(student), PublishedPredictor(predictor), PublishedEncoder(teacher)
    video = published_salt.float_video(clip, student.config.mean, student.config.std)
    with torch.no_grad():
        target = fixed.encode(fixed.embed(video))
    z = encoder.encode(encoder.embed(video, visible))
    published = published_salt.loss(heads(z, visible, masked), target, masked)
    published.backward()

    torch.testing.assert_close(published, ours, rtol=1e-5, atol=0)
    theirs = {fastvid_name(n).replace("patch_embed.", "patch_embed.proj."): p for n, p in encoder.named_parameters()}
    assert theirs.keys() == dict(student.named_parameters()).keys()
    for name, parameter in student.named_parameters():
        compare(name, theirs[name].grad, parameter.grad)
    theirs = {fastvid_name(n): p for n, p in heads.named_parameters()}
    assert theirs.keys() == dict(predictor.named_parameters()).keys()
    for name, parameter in predictor.named_parameters():
        compare(name, theirs[name].grad, parameter.grad)


def test_published_masks_partition_the_grid():
    visible, masked = published_salt.masks(5, GRID, MASKED, torch.device("cpu"))
    assert (visible.shape, masked.shape) == ((5, VISIBLE), (5, MASKED))
    together = torch.cat([visible, masked], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(32).expand_as(together))
    assert torch.equal(masked, masked.sort(dim=1).values)
