"""The probe of positions on encoders of which the answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from fastvid.data import Batch
from fastvid.data.demo.positions import demo_positions
from fastvid.data.demo.render import DemoSpec, demo_motion
from fastvid.eval.position import position_probe

GRID = (4, 2, 2)
SPEC = DemoSpec(frames=8)
CPU = torch.device("cpu")


def batches(first: int, count: int):
    """Clips that are of no interest to these encoders, but for the number in their first pixels."""
    for start in range(first, first + count, 16):
        numbers = torch.arange(start, min(start + 16, first + count))
        clips = torch.zeros(len(numbers), 8, 8, 8, 3, dtype=torch.uint8)
        clips[:, 0, 0, 0, 0], clips[:, 0, 0, 0, 1] = numbers % 256, numbers // 256
        yield Batch(keys=[f"{n:06d}" for n in numbers], ids=numbers, view_hashes=numbers, clips=clips)


class Oracle(nn.Module):
    """Tokens that hold the way from the middle of their patch to the position at their moment, or noise alone."""

    def __init__(self, knows: bool):
        super().__init__()
        self.knows, self.where = knows, demo_positions(3, SPEC, 4)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        numbers = clips[:, 0, 0, 0, 0].int() + 256 * clips[:, 0, 0, 0, 1].int()
        middles = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])  # x first, row after row
        angle = 2 * torch.pi * (self.where([str(int(n)) for n in numbers]).unsqueeze(2) - middles)
        told = torch.cat([angle.cos(), angle.sin()], -1).flatten(1, 2)
        noise = torch.randn(len(clips), 16, 8, generator=torch.Generator().manual_seed(int(numbers[0])))
        return torch.cat([100 * told if self.knows else noise[..., :4], noise], dim=-1)


@pytest.mark.parametrize("knows", [True, False])
def test_tokens_tell_what_they_hold(knows):
    score = position_probe(
        Oracle(knows), GRID, demo_positions(3, SPEC, 4), lambda: batches(0, 200), lambda: batches(200, 100), CPU
    )
    assert score.videos == 100
    assert score.low < score.error < score.high
    if knows:
        assert score.r2 > 0.999
        assert score.error < 0.01
    else:
        assert abs(score.r2) < 0.05
        # A random guess on a torus of side 1 is off by (sqrt(2) + asinh(1)) / 6 = 0.383 in the mean.
        assert score.error == pytest.approx(0.383, abs=0.02)
    assert str(score).startswith("R2 ")


def test_positions_of_the_demo_are_those_of_the_middle_of_a_slot():
    path, _ = demo_motion(3, 5, SPEC)
    (got,) = demo_positions(3, SPEC, 4)(["000005"])
    for slot in range(4):
        a, b = path[2 * slot] / SPEC.size, path[2 * slot + 1] / SPEC.size
        angle = np.angle((np.exp(2j * np.pi * a) + np.exp(2j * np.pi * b)) / 2) / (2 * np.pi) % 1
        np.testing.assert_allclose(got[slot], angle, atol=1e-5)
    with pytest.raises(ValueError, match="8 frames do not divide into 3 time slots"):
        demo_positions(3, SPEC, 3)
