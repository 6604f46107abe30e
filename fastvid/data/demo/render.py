"""The demo data set: short labelled videos of one shape moving over a drifting textured background.

Four motions in a small 3-D world seen from the front: ``linear`` (constant velocity), ``circular`` (a circle parallel
to the image), ``helical`` (a circle that also approaches and recedes, so the shape grows and shrinks) and ``parabolic``
(thrown upwards, falling back). The frame is a torus: a shape that leaves on one side comes back on the other. So in
every frame of every class the shape has the same distribution of positions and sizes, and no single frame reveals the
class. Shape, colour, spin and background are independent of the class too.

Every pixel is a pure function of (seed, index), and so are the encoded bytes for one version of the encoder.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from fastvid.random import SampleRandom, philox4x32, split64
from fastvid.ranges import Count, Natural, NotNegative, Positive, Share

CLASSES = ("linear", "circular", "helical", "parabolic")
SHAPES = ("disc", "square", "triangle", "ring")


@dataclass(frozen=True)
class DemoSpec:
    """The look of the demo videos."""

    size: Count = 64
    """Side of the square frame, pixels."""
    frames: Count = 32
    """Frames per video."""
    fps: Count = 16
    """Frames per second."""
    texture: Share = 0.15
    """Peak-to-peak contrast of the background, in [0, 1]."""
    drift: NotNegative = 0.45
    """Greatest background speed, pixels per frame."""
    radius: tuple[Positive, Positive] = (0.1, 0.18)
    """Smallest and largest radius of a shape, as shares of the frame's side."""


@dataclass(frozen=True)
class DemoSize:
    """The number of demo videos, their seed, and their look."""

    train: Count = 2048
    """Videos in the folder train."""
    test: Count = 1024
    """Videos in the folder test."""
    seed: Natural = 0
    """Seed of the videos."""
    spec: DemoSpec = field(default_factory=DemoSpec)
    """Look of the videos."""


def demo_label(index: int) -> str:
    """Return the motion class of video ``index``: the classes take turns, so every prefix is balanced."""
    return CLASSES[index % len(CLASSES)]


def demo_frames(seed: int, index: int, spec: DemoSpec | None = None) -> np.ndarray:
    """Render one video as uint8 [frames, size, size, 3]."""
    spec = spec or DemoSpec()
    path, radius = demo_motion(seed, index, spec)
    rng = SampleRandom(f"demo-{index}-look", seed, 0)
    background = _background(rng, spec)
    shape = SHAPES[rng.below(len(SHAPES))]
    colour = _vivid_colour(rng)
    spin, angle = rng.uniform(-0.2, 0.2), rng.uniform(0, 2 * math.pi)
    pixel = np.arange(spec.size, dtype=np.float32) + np.float32(0.5)
    x = _around(pixel[None, None, :] - path[:, 0, None, None], spec.size)
    y = _around(pixel[None, :, None] - path[:, 1, None, None], spec.size)
    angles = (angle + spin * np.arange(spec.frames))[:, None, None]
    alpha = _coverage(shape, x, y, radius[:, None, None], angles)[..., None]  # [T, H, W, 1]
    return np.rint((background + (colour - background) * alpha) * 255).clip(0, 255).astype(np.uint8)


def demo_motion(seed: int, index: int, spec: DemoSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return the shape's centres float32 [frames, 2] (x, y) in [0, size), and its radii float32 [frames], in pixels."""
    rng = SampleRandom(f"demo-{index}", seed, 0)
    label, size = demo_label(index), spec.size
    t = np.arange(spec.frames, dtype=np.float64) / max(1, spec.frames - 1)
    angle, sign = rng.uniform(0, 2 * math.pi), 1 if rng.below(2) else -1
    approach = np.zeros_like(t)
    if label in ("circular", "helical"):
        orbit, turns = size * rng.uniform(0.13, 0.25), sign * rng.uniform(0.9, 1.6)
        x, y = orbit * np.cos(angle + 2 * math.pi * turns * t), orbit * np.sin(angle + 2 * math.pi * turns * t)
        if label == "helical":
            approach = rng.uniform(0.8, 1.2) * t
    elif label == "linear":
        way = size * rng.uniform(0.35, 0.75)
        x, y = way * math.cos(angle) * t, way * math.sin(angle) * t
    else:
        peak, height = rng.uniform(0.3, 0.7), size * rng.uniform(0.35, 0.6)
        x = sign * size * rng.uniform(0.15, 0.6) * t
        y = height * ((t - peak) / max(peak, 1 - peak)) ** 2
    path = np.stack([x + size * rng.uniform(), y + size * rng.uniform()], axis=1) % size
    # Back and forth between smallest and largest radius from a random start: each is equally likely at any time.
    depth = 1 - np.abs((2 * rng.uniform() + approach) % 2 - 1)
    low, high = spec.radius
    return path.astype(np.float32), (size * low * (high / low) ** depth).astype(np.float32)


def _around(distance: np.ndarray, size: int) -> np.ndarray:
    """Wrap a distance on a circle of ``size`` pixels to the shortest one, in [-size / 2, size / 2)."""
    return (distance + size / 2) % size - size / 2


def _background(rng: SampleRandom, spec: DemoSpec) -> np.ndarray:
    """Render float32 [frames, size, size, 3] in [0, 1]: smooth noise around a dull colour, drifting at constant
    velocity.
    """
    base = np.array([rng.uniform(0.25, 0.6) for _ in range(3)], np.float32)
    vx, vy = rng.uniform(-spec.drift, spec.drift), rng.uniform(-spec.drift, spec.drift)
    noise_seed = (rng.word() << 32) | rng.word()
    margin = math.ceil(spec.drift * spec.frames) + 1
    texture = _smooth_noise(noise_seed, spec.size + 2 * margin, cell=spec.size / 6) * np.float32(spec.texture)
    frames = [_shifted(texture, margin + vy * t, margin + vx * t, spec.size) for t in range(spec.frames)]
    return base + np.stack(frames)[..., None]


def _smooth_noise(seed: int, side: int, cell: float) -> np.ndarray:
    """Return noise [side, side] in [-0.5, 0.5]: random values on a coarse lattice, interpolated with a smoothstep."""
    lattice = math.ceil(side / cell) + 2
    words = philox4x32((np.arange(lattice * lattice, dtype=np.int64), 0, 0, 0), split64(seed))[0]
    values = (np.asarray(words) / 2**32 - 0.5).astype(np.float32).reshape(lattice, lattice)
    position = (np.arange(side) / cell).astype(np.float32)
    low = position.astype(int)
    weight = position - low
    weight = weight * weight * (3 - 2 * weight)
    rows = values[low] * (1 - weight)[:, None] + values[low + 1] * weight[:, None]
    return rows[:, low] * (1 - weight) + rows[:, low + 1] * weight


def _shifted(image: np.ndarray, top: float, left: float, size: int) -> np.ndarray:
    """Return the size x size window of ``image`` at a fractional corner, bilinearly interpolated."""
    i, j = math.floor(top), math.floor(left)
    a, b = np.float32(top - i), np.float32(left - j)
    window = image[i : i + size + 1, j : j + size + 1]
    rows = window[:-1] * (1 - a) + window[1:] * a
    return rows[:, :-1] * (1 - b) + rows[:, 1:] * b


def _vivid_colour(rng: SampleRandom) -> np.ndarray:
    """Draw a saturated bright colour, RGB in [0, 1]."""
    hue, value = rng.uniform(0, 6), rng.uniform(0.85, 1.0)
    ramp = np.abs(np.array([hue % 6, (hue + 4) % 6, (hue + 2) % 6], np.float32) - 3) - 1
    return np.float32(value) * np.clip(ramp, 0.0, 1.0)


def _coverage(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return the share of each pixel that the shape covers, from its signed distance in pixels (positive outside)."""
    cos, sin = np.cos(angle, dtype=np.float32), np.sin(angle, dtype=np.float32)
    u, v = x * cos + y * sin, y * cos - x * sin
    if shape == "disc":
        outside = np.hypot(x, y) - radius
    elif shape == "ring":
        outside = np.abs(np.hypot(x, y) - 0.7 * radius) - 0.35 * radius
    elif shape == "square":
        outside = np.maximum(np.abs(u), np.abs(v)) - 0.85 * radius
    else:
        outside = np.maximum(np.abs(u) * np.float32(math.sqrt(3) / 2) + v / 2, -v) - 0.6 * radius
    return np.clip(0.5 - outside, 0, 1, dtype=np.float32)
