"""Epochs of fine-tuning a frozen V-JEPA 2: the first against the published loop, later ones against recomputing.

``python -m benchmarks.training.vjepa2_loop`` measures more models and approaches, and says where the time goes.
"""

import pytest
import torch

from benchmarks.harness.timing import Call
from benchmarks.training.vjepa2_sides import TINY, Recipe, Shape, check_same, make_model, published, write_videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("videos"), "demo", videos=16, frames=48)


def epoch(train):
    """Measure an epoch with decoding and loading, which a CUDA graph could not replay."""
    return Call(train, capture=False)


def test_first_epoch(videos, device, record):
    device = torch.device(device.kind)
    model = make_model(TINY, "head")
    loop, recipe = published(model, videos, device), Recipe(model, videos, device, views=1)
    check_same(loop, recipe)
    variants = {"fastvid": epoch(recipe.first_epoch), "published loop": epoch(loop.epoch)}
    record("V-JEPA 2 tiny, first epoch", variants, rounds=3)


def test_later_epochs(videos, device, record):
    """Compare with recomputing epochs, which decode and run the frozen encoder and pooler on every clip."""
    recipe = Recipe(make_model(Shape(4, 192, 64), "head"), videos, torch.device(device.kind), views=1)
    recipe.first_epoch()
    # Where the store of features was made does not matter to the variant that reads it.
    variants = {"fastvid": epoch(recipe.later_epochs), "frozen part recomputed": epoch(recipe.first_epoch)}
    record("V-JEPA 2 width 192, later epochs", variants, rounds=3)
