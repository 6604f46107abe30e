"""What the benchmarks compare computes what it claims, at a size that takes no time."""

import pytest
import torch

from benchmarks.training import fvlm_sides as sides

CPU, SIZE = torch.device("cpu"), sides.SIZES["rehearsal"]


def compared(name):
    """The two sides of a comparison of training steps."""
    if name == "joint":
        return sides.joint(SIZE, CPU)
    options = {"questions": {"questions": 4}, "stills": {"stills": True}}[name]
    return sides.answering(SIZE, CPU, sides.make_batch(SIZE, CPU, **options))


@pytest.mark.parametrize("name", ["joint", "questions", "stills"])
def test_both_sides_are_the_same_training(name):
    both = compared(name)
    sides.check_same(both)
    before = [p.detach().clone() for p in both[sides.OURS].module.parameters()]
    for side in both.values():
        assert side.peak_bytes() > side.resident_bytes() > 3 * sum(p.nbytes for p in side.module.parameters()) - 1
    assert any(not torch.equal(x, y) for x, y in zip(before, both[sides.OURS].module.parameters(), strict=True))


def test_another_loss_or_another_gradient_is_found():
    both = compared("joint")
    loss = both[sides.OURS].loss
    both[sides.OURS].loss = lambda: 1.01 * loss()
    with pytest.raises(AssertionError, match="the loss is"):
        sides.check_same(both)
    both[sides.OURS].loss = lambda: (
        loss() + sum(0.1 * (p - p.detach()).sum() for p in both[sides.OURS].module.parameters())
    )
    with pytest.raises(AssertionError, match="the gradients differ"):
        sides.check_same(both)


def test_four_options_score_the_same_in_three_modes():
    found = {name: side() for name, side in sides.choosing(SIZE, CPU).items()}
    assert list(found[sides.OURS]) == list(sides.MODES)
    for mode in sides.MODES:
        assert len(set(found[sides.OURS][mode])) == 4
        assert found[sides.OURS][mode] == pytest.approx(found[sides.PUBLISHED][mode], rel=1e-3)


def test_every_frame_of_a_stream_is_timed():
    assert len(sides.seconds_of_frames(SIZE, CPU, early=3, late=4, some=2, rounds=3)) == 3
