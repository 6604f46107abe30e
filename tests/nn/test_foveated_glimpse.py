import pytest
import torch

from fastvid.nn import FoveatedGlimpse, GlimpseConfig
from fastvid.ops import foveated_glimpse


def test_own_fixations_cover_the_frame_and_stay_in_range():
    module = FoveatedGlimpse(GlimpseConfig(4, 2), gazes=4, scale_range=(0.1, 0.4))
    center, scale = module.gaze()
    torch.testing.assert_close(center, torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]))
    torch.testing.assert_close(scale, torch.full((4,), 0.2))
    with torch.no_grad():
        module.raw_center.fill_(1e3), module.raw_scale.fill_(-1e3)
    center, scale = module.gaze()
    assert center.abs().max() <= 1
    torch.testing.assert_close(scale, torch.full((4,), 0.1))


def test_a_gaze_learns_to_find_a_bright_spot():
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    spot = torch.exp(-((x - 22) ** 2 + (y - 10) ** 2) / 128)
    frames = (255 * spot).to(torch.uint8)[None, None, ..., None].expand(1, 2, 32, 32, 3)
    module = FoveatedGlimpse(GlimpseConfig(6, 1), scale_range=(0.1, 0.5))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(120):
        optimizer.zero_grad()
        (-module(frames).mean()).backward()
        optimizer.step()
    center, scale = module.gaze()
    where = (center[0] + 1) * 16 - 0.5  # in pixels
    torch.testing.assert_close(where.detach(), torch.tensor([22.0, 10.0]), rtol=0, atol=0.5)
    assert scale.item() < 0.2  # the closer it looks, the brighter


def test_fixations_given_at_the_call():
    frames = torch.randint(256, (2, 3, 20, 24, 3), dtype=torch.uint8)
    center, scale = torch.rand(2, 3, 5, 2) - 0.5, torch.rand(2, 3, 5) + 0.1
    module = FoveatedGlimpse(GlimpseConfig(4, 2, padding="zeros"), gazes=5, learnable=False)
    assert not list(module.parameters())
    assert torch.equal(
        module(frames, center, scale), foveated_glimpse(frames, center, scale, size=4, levels=2, padding="zeros")
    )
    assert module(frames, center).shape == module(frames).shape == (2, 3, 5, 2, 3, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(frames).dtype == torch.bfloat16


def test_refusals():
    with pytest.raises(ValueError, match="gazes must be at least 1, got 0"):
        FoveatedGlimpse(GlimpseConfig(4, 2), gazes=0)
    with pytest.raises(ValueError, match=r"got \(0.5, 0.1\)"):
        FoveatedGlimpse(GlimpseConfig(4, 2), scale_range=(0.5, 0.1))
