"""Glimpses around fixations, against the usual way: float frames, normalise, grid_sample once per level."""

import pytest
import torch
import torch.nn.functional as F

from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD, foveated_glimpse

MEAN, STD = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)


def usual(frames, center, scale, size, levels):
    """One grid_sample for all fixations of a frame and one level: they are stacked along the height."""
    B, T, H, W, _ = frames.shape
    G = center.shape[2]
    pixels = frames.flatten(0, 1).permute(0, 3, 1, 2).float().div_(255).sub_(MEAN).div_(STD)
    offset = (torch.arange(size) + 0.5) / size - 0.5
    crops = []
    for level in range(levels):
        side = (scale * min(H, W) * 2**level).unsqueeze(-1)
        x = center[..., 0, None] + 2 * offset * side / W  # [B, T, G, size]
        y = center[..., 1, None] + 2 * offset * side / H
        grid = torch.stack(torch.broadcast_tensors(x.unsqueeze(-2), y.unsqueeze(-1)), -1)
        grid = grid.view(B * T, G * size, size, 2)
        crop = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        crops.append(crop.view(B, T, 3, G, size, size).transpose(2, 3))
    return torch.stack(crops, 3)


def scene(B, T, side, G, size):
    torch.manual_seed(0)
    frames = torch.randint(256, (B, T, side, side, 3), dtype=torch.uint8)
    center = torch.rand(B, T, G, 2) - 0.5
    return frames, center, torch.full((B, T, G), size / side)


# The innermost level samples every pixel, the next ones every second and fourth.
CASES = [(1, 8, 512, 4, 96, 3), (1, 16, 256, 1, 128, 2)]


@pytest.mark.parametrize("case", CASES, ids=["512px 4x96 3 levels", "256px 1x128 2 levels"])
@pytest.mark.parametrize("antialias", [True, False], ids=["antialias", "interpolate"])
def test_glimpses(record, case, antialias):
    B, T, side, G, size, levels = case
    frames, center, scale = scene(B, T, side, G, size)

    def sides(antialias):
        return lambda: foveated_glimpse(
            frames, center, scale, size=size, levels=levels, antialias=antialias, backend="native"
        )

    # Without antialiasing both compute the same thing; with it ours reads every pixel that the crops cover.
    expected = usual(frames, center, scale, size, levels)
    torch.testing.assert_close(sides(False)(), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sides(True)()[:, :, :, 0], expected[:, :, :, 0], rtol=1e-3, atol=1e-3)
    record(
        f"glimpse {side}px {G}x{size}" + ("" if antialias else " interpolated"),
        {
            "fastvid": sides(antialias),
            "float, normalise, grid_sample": lambda: usual(frames, center, scale, size, levels),
        },
        floors={"float, normalise, grid_sample": 5},
        least_bytes=expected.nbytes + frames.nbytes,
        rounds=7,
    )


def test_gaze_gradient(record):
    """Forward and backward to a learned gaze, where autograd must also keep the float frames."""
    frames, center, scale = scene(1, 4, 512, 4, 96)

    def learned(glimpses):
        def step():
            c, s = center.clone().requires_grad_(), scale.clone().requires_grad_()
            glimpses(frames, c, s).square().mean().backward()
            return c.grad, s.grad

        return step

    def ours(antialias):
        return learned(
            lambda f, c, s: foveated_glimpse(f, c, s, size=96, levels=3, antialias=antialias, backend="native")
        )

    theirs = learned(lambda f, c, s: usual(f, c, s, 96, 3))
    for got, expected in zip(ours(False)(), theirs(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-2 * expected.abs().max().item())
    record(
        "glimpse and gaze gradient",
        {"fastvid": ours(True), "float, normalise, grid_sample": theirs},
        floors={"float, normalise, grid_sample": 1.3},
        rounds=5,
    )
