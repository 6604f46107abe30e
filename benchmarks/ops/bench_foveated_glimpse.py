"""Glimpses around fixations, against the usual way: float frames, normalise, grid_sample once per level."""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

from benchmarks.harness import byte_model
from benchmarks.harness.timing import Variant
from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD, foveated_glimpse


class Scene(NamedTuple):
    """Square frames, their fixations, and the glimpses: the innermost level samples every pixel, the next every 2nd."""

    batch: int | None  # None: 8 times the card's L2 cache
    time: int
    side: int
    fixations: int
    size: int
    levels: int
    dtype: torch.dtype  # of the glimpses

    def __str__(self) -> str:
        batch = "8x L2" if self.batch is None else f"B{self.batch} T{self.time}"
        levels = f"{self.levels} level{'s' * (self.levels > 1)}"
        return f"{batch} {self.side}px, {self.fixations} of {self.size}px, {levels}"

    def least_bytes(self, batch: int, pixels: int) -> dict[str, int]:
        sizes = (batch, self.time, self.fixations, self.size)
        options = {"levels": self.levels, "out_size": self.dtype.itemsize, "pixels": pixels}
        forward = byte_model.foveated_glimpse(*sizes, **options)
        backward = byte_model.foveated_glimpse_backward(*sizes, **options)
        return {"forward": forward, "backward": backward, "forward + backward": forward + backward}


WORKLOADS = {
    "cpu": [Scene(1, 8, 512, 4, 96, 3, torch.float32), Scene(1, 16, 256, 1, 128, 2, torch.float32)],
    "cuda": [
        Scene(8, 16, 512, 4, 96, 3, torch.bfloat16),
        Scene(24, 16, 256, 1, 128, 2, torch.bfloat16),
        Scene(None, 16, 256, 1, 128, 1, torch.bfloat16),
    ],
}


def fixations(scene, batch, device):
    """Make uint8 frames, centres in the middle half, and the scale at which the innermost level is the pixels
    themselves.
    """
    torch.manual_seed(0)
    frames = torch.randint(256, (batch, scene.time, scene.side, scene.side, 3), dtype=torch.uint8, device=device)
    center = torch.rand(batch, scene.time, scene.fixations, 2, device=device) - 0.5
    return frames, center, torch.full(center.shape[:3], scene.size / scene.side, device=device)


def pixels_under(scene, center) -> int:
    """Count the pixels that lie under the widest crop of at least one fixation."""
    reach = scene.size * 2 ** (scene.levels - 1) / 2
    pixel = torch.arange(scene.side, device=center.device)
    middle = ((center + 1) * scene.side - 1) / 2
    x, y = ((pixel - m.unsqueeze(-1)).abs() < reach for m in middle.unbind(-1))  # [B, T, G, side]
    return sum(int((y.mT.float() @ x.float()).count_nonzero()) for x, y in zip(x, y, strict=True))


def usual(frames, center, scale, mean, std, size, levels, dtype):
    """Run one grid_sample for all fixations of a frame and one level, stacked along the height."""
    B, T, H, W, _ = frames.shape
    G = center.shape[2]
    pixels = frames.flatten(0, 1).permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
    offset = (torch.arange(size, device=frames.device) + 0.5) / size - 0.5
    crops = []
    for level in range(levels):
        side = (scale * min(H, W) * 2**level).unsqueeze(-1)
        x = center[..., 0, None] + 2 * offset * side / W  # [B, T, G, size]
        y = center[..., 1, None] + 2 * offset * side / H
        grid = torch.stack(torch.broadcast_tensors(x.unsqueeze(-2), y.unsqueeze(-1)), -1)
        grid = grid.view(B * T, G * size, size, 2)
        crop = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        crops.append(crop.view(B, T, 3, G, size, size).transpose(2, 3))
    return torch.stack(crops, 3).to(dtype)


class Variants:
    """The functions to compare, of center and scale."""

    def __init__(self, scene, device, backend):
        self.scene = scene
        self.batch = scene.batch or device.batch_over_l2(scene.least_bytes(1, pixels=0)["forward"])
        self.frames, self.center, self.scale = fixations(scene, self.batch, device.kind)
        self.backend, self.narrow = backend, scene.dtype != torch.float32
        self.constants = [torch.tensor(x, device=device.kind).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD)]
        self.others = {"float, normalise, grid_sample": self.theirs(usual)}
        if device.kind == "cuda":
            self.others["compiled float, normalise, grid_sample"] = self.theirs(torch.compile(usual, dynamic=False))

    def ours(self, antialias):
        options = {"size": self.scene.size, "levels": self.scene.levels, "dtype": self.scene.dtype}
        return lambda center, scale: foveated_glimpse(
            self.frames, center, scale, antialias=antialias, backend=self.backend, **options
        )

    def theirs(self, function):
        size, levels, dtype = self.scene.size, self.scene.levels, self.scene.dtype
        return lambda center, scale: function(self.frames, center, scale, *self.constants, size, levels, dtype)

    def least_bytes(self):
        return self.scene.least_bytes(self.batch, pixels_under(self.scene, self.center))

    def gate(self):
        """Check that all variants agree without antialiasing. With it, ours averages the pixels that the wider levels
        skip.
        """
        near = 2e-2 if self.narrow else 1e-3
        gaze = (self.center, self.scale)
        interpolated, averaged = self.ours(False)(*gaze), self.ours(True)(*gaze)
        for theirs in self.others.values():
            expected = theirs(*gaze)
            torch.testing.assert_close(interpolated, expected, rtol=near, atol=near)
            torch.testing.assert_close(averaged[:, :, :, 0], expected[:, :, :, 0], rtol=near, atol=near)

    def forward(self, antialias):
        variants = {"fastvid": self.ours(antialias), **self.others}
        return {name: Variant(partial(variant, self.center, self.scale)) for name, variant in variants.items()}


def test_glimpses(workload, device, kernel, record):
    variants = Variants(workload, device, kernel("foveated_glimpse"))
    least = {"forward": variants.least_bytes()["forward"]}
    record(f"foveated_glimpse, {workload}", variants.forward(True), gate=variants.gate, least_bytes=least, rounds=7)


def test_interpolated_glimpses(users_workload, device, kernel, record):
    """Measure without antialiasing, where fewer pixels are read; how many depends on the levels."""
    variants = Variants(users_workload, device, kernel("foveated_glimpse"))
    record(f"foveated_glimpse interpolated, {users_workload}", variants.forward(False), gate=variants.gate, rounds=7)


def test_gaze_gradient(users_workload, device, kernel, record):
    """Measure forward and backward to a learned gaze, where autograd must also keep the float frames."""
    variants = Variants(users_workload, device, kernel("foveated_glimpse"))
    gaze = [variants.center.requires_grad_(), variants.scale.requires_grad_()]
    upstream = torch.randn_like(variants.ours(True)(*gaze))

    def variant(function):
        return Variant(lambda: function(*gaze), inputs=gaze, upstream=upstream)

    others = {name: variant(theirs) for name, theirs in variants.others.items()}

    def gate():
        got = variant(variants.ours(False)).results()[1:]
        for other in others.values():
            for one, expected in zip(got, other.results()[1:], strict=True):
                torch.testing.assert_close(one, expected, rtol=1e-2, atol=1e-2 * expected.abs().max().item())

    record(
        f"foveated_glimpse gaze gradient, {users_workload}",
        {"fastvid": variant(variants.ours(True)), **others},
        gate=gate,
        least_bytes=variants.least_bytes(),
        rounds=5,
    )
