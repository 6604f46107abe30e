"""The comparison of whole SALT steps: its variants compute what they claim, and what is measured adds up."""

import json

import pytest
import torch

from benchmarks.training import salt_measure, salt_step
from benchmarks.training.salt_sides import STEPS, Size, forward, make_variant, random_clip, step
from fastvid.ops import masked_latent_loss
from fastvid.projects.salt.model import MaskedPrediction

TINY = Size("vit_tiny_patch16_224", 32, 2, width=24, heads=2, depth=1)  # 8 x 2 x 2 tokens
CPU = torch.device("cpu")


@pytest.fixture
def clip():
    return random_clip(TINY, CPU)


def test_published_and_same_begin_at_one_loss(clip):
    losses = salt_step.check_same(make_variant("published", TINY, CPU), make_variant("same", TINY, CPU), clip)
    assert losses[0] > 0
    with pytest.raises(AssertionError, match="the same mathematics gives a loss of"):
        salt_step.check_same(make_variant("published", TINY, CPU), Doubled(make_variant("same", TINY, CPU)), clip)


class Doubled:
    def __init__(self, variant):
        self.variant = variant

    def __getattr__(self, name):
        return getattr(self.variant, name)

    def loss(self, *args):
        return 2 * self.variant.loss(*args)


@pytest.mark.parametrize("name", ["same", "subset"])
def test_the_pieces_are_those_of_the_recipe(name, clip):
    variant = make_variant(name, TINY, CPU)
    mask = variant.masks()
    assert mask[0].shape == (2, 8)
    assert mask[1].shape == (2, 24 if name == "same" else 8)
    (pred,) = MaskedPrediction(variant.encoder, variant.predictor)(clip, [mask])
    expected = masked_latent_loss(pred, variant.teacher(clip), mask[1], normalize_target=True)
    assert torch.equal(forward(variant, clip, mask), expected)


@pytest.mark.parametrize("name", ["published", "same"])
def test_a_step_trains_and_leaves_the_teacher_alone(name, clip):
    variant = make_variant(name, TINY, CPU)
    weights = [p.clone() for p in variant.module.parameters()]
    teacher = [p.clone() for p in variant.teacher.parameters()]
    step(variant, clip)
    assert not any(torch.equal(old, new) for old, new in zip(weights, variant.module.parameters(), strict=True))
    assert all(torch.equal(old, new) for old, new in zip(teacher, variant.teacher.parameters(), strict=True))


def test_memory_is_followed_through_every_allocation(clip):
    variant = make_variant("same", TINY, CPU)
    hoard = []
    plain = salt_measure.peak_bytes(variant, clip)
    masks = variant.masks
    variant.masks = lambda: (hoard.append(torch.empty(3_000_000, dtype=torch.uint8)), masks())[1]
    assert salt_measure.peak_bytes(variant, clip) - plain == 3_000_000
    assert salt_measure.bytes_by_piece(variant, clip)["masks"] >= 3_000_000


def test_everything_is_measured(clip, monkeypatch):
    monkeypatch.setattr(salt_measure, "gemm_rate", lambda device: 1e10)
    result = salt_step.compare(("published", "same"), TINY, CPU, memory_batch=2, rounds=1)
    assert json.loads(json.dumps(result)).keys() == result.keys()
    for row in result["sides"].values():
        assert row["seconds_by_piece"].keys() == set(salt_measure.PIECES)
        assert sum(row["shares"].values()) == pytest.approx(1)
        assert row["peak_bytes"] > row["resident_bytes"] > 0
    text = salt_step._text(result)
    assert "published" in text
    assert "pixels" in text


def test_brief_is_times_alone(clip, monkeypatch):
    monkeypatch.setattr(salt_measure, "gemm_rate", lambda device: 1e10)
    result = salt_step.compare(("published", "same"), TINY, CPU, memory_batch=None, rounds=1)
    assert all("peak_bytes" not in row and row["gflop"] > 0 for row in result["sides"].values())
    assert "peak" not in salt_step._text(result)


def test_every_step_between_has_a_variant():
    assert {name.split(", ")[0] for name in STEPS} == {"published", "same", "subset", "recommended"}


def test_a_memory_budget_keeps_fewer_activations(clip):
    """And computes the same as without compiler and memory budget."""
    budget, subset = (make_variant(name, TINY, CPU) for name in ("subset, budget", "subset"))
    mask = subset.masks()
    losses = [forward(variant, clip, mask) for variant in (budget, subset)]
    torch.testing.assert_close(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    for one, other in zip(budget.module.parameters(), subset.module.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)
    kept = [salt_measure.bytes_by_piece(variant, clip) for variant in (budget, subset)]
    for piece in ("encoder", "predictor"):
        assert kept[0][piece] < 0.8 * kept[1][piece]
