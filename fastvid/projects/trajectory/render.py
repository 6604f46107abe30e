"""Rendering of scenes, many videos at once, and the truth about what can be seen in them."""

from dataclasses import dataclass

import numpy as np

from fastvid.draws import between, uniforms
from fastvid.projects.trajectory.scenes import Scenes

_LOOK = 4  # Philox stream of backgrounds and bars
_CELLS = 8  # of a background's texture, along a side


@dataclass(frozen=True)
class Truth:
    """The visible part of each object.

    Attributes:
        boxes: float32 [V, O, T, 4], left, top, right and bottom of the whole disc, cut at the frame's border, as
            fractions of the frame; zero where the object does not exist or is outside.
        visibility: float32 [V, O, T], share of the disc's pixels that show; outside of the frame none does.
        persistent: bool [V, O].
    """

    boxes: np.ndarray
    visibility: np.ndarray
    persistent: np.ndarray


def render(scenes: Scenes) -> tuple[np.ndarray, Truth]:
    """Render all frames of some scenes.

    A disc covers the pixels whose centres are at most a radius from its own.

    Returns:
        uint8 [V, T, size, size, 3], and the truth.
    """
    V, slots, T, _ = scenes.centre.shape
    size = scenes.size
    still, barred = background(scenes)
    frames = np.empty((V, T, size, size, 3), np.uint8)
    frames[:] = still[:, None]
    # Objects in all frames, those behind first: of two that write a pixel the later one stays.
    v, o, t = np.nonzero(scenes.alive)
    order = np.argsort(scenes.near[v, o, t], kind="stable")
    v, o, t = v[order], o[order], t[order]
    place, which, whole = _disc_pixels(scenes.centre[v, o, t], scenes.radius[v, o, t], size)
    open_ = ~barred.reshape(V, -1)[v[which], place]
    place, which = place[open_], which[open_]
    flat = (v * T + t)[which] * (size * size) + place
    frames.reshape(-1, 3)[flat] = scenes.colour[v, o][which]
    owner = np.empty(V * T * size * size, np.int8)  # read where it was written only
    owner[flat] = o[which]
    shown = np.bincount(which[owner[flat] == o[which]], minlength=len(v))
    visibility = np.zeros((V, slots, T), np.float32)
    visibility[v, o, t] = shown / whole
    return frames, Truth(disc_boxes(scenes), visibility, scenes.persistent)


def disc_boxes(scenes: Scenes) -> np.ndarray:
    """Return float32 [V, O, T, 4]: the box of each disc's pixels inside the frame, as fractions of the frame."""
    place = scenes.centre.astype(np.float64) - 0.5
    # In a column of pixels the one nearest to the disc's centre decides whether the disc covers any; likewise in a row.
    aside = np.abs(place - np.rint(place))[..., ::-1]
    reach = np.sqrt(np.maximum(scenes.radius[..., None].astype(np.float64) ** 2 - aside**2, 0))
    first, last = np.ceil(place - reach), np.floor(place + reach) + 1
    boxes = np.concatenate([first, last], axis=-1).clip(0, scenes.size) / scenes.size
    inside = scenes.alive & (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    return np.where(inside[..., None], boxes, 0).astype(np.float32)


def background(scenes: Scenes) -> tuple[np.ndarray, np.ndarray]:
    """Render what is still in each video: nothing but black, or a texture of soft patches with bars before it.

    Returns:
        uint8 [V, size, size, 3], and bool [V, size, size], where a bar covers everything.
    """
    V, size = len(scenes.indices), scenes.size
    barred = np.zeros((V, size, size), bool)
    if not scenes.textured:
        return np.zeros((V, size, size, 3), np.uint8), barred
    bars = scenes.bars.shape[1]
    look = uniforms(scenes.seed, scenes.indices, (3 + bars + (_CELLS + 1) ** 2,), _LOOK)
    still = between(look[:, :3], 70, 110)[:, None, None, :] + _texture(look[:, 3 + bars :], size)[..., None]
    pixel = np.arange(size)
    left, top, right, bottom = np.moveaxis(scenes.bars, -1, 0)[..., None]  # [V, bars, 1] each
    down, across = (pixel >= top) & (pixel < bottom), (pixel >= left) & (pixel < right)
    for number in range(bars):
        bar = down[:, number, :, None] & across[:, number, None, :]
        still = np.where(bar[..., None], between(look[:, 3 + number], 30, 60)[:, None, None, None], still)
        barred |= bar
    return np.rint(still).astype(np.uint8), barred


def _texture(uniform: np.ndarray, size: int) -> np.ndarray:
    """Return smooth noise [V, size, size] in [-28, 28]: random values on a lattice, interpolated with a smoothstep."""
    lattice = between(uniform, -28, 28).reshape(-1, _CELLS + 1, _CELLS + 1)
    at = np.arange(size) * (_CELLS / size)
    low = at.astype(int)
    weight = at - low
    weight = weight * weight * (3 - 2 * weight)
    rows = lattice[:, low] * (1 - weight)[:, None] + lattice[:, low + 1] * weight[:, None]
    texture: np.ndarray = rows[:, :, low] * (1 - weight) + rows[:, :, low + 1] * weight
    return texture


def _disc_pixels(centre: np.ndarray, radius: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pixels of N discs.

    Returns:
        (place in the frame of each pixel, its disc's number, pixels of each disc, outside of the frame too).
    """
    reach = int(np.ceil(radius.max(initial=0))) + 1
    around = np.arange(-reach, reach + 1)
    corner = np.floor(centre).astype(np.int64)
    x = corner[:, 0, None] + around  # [N, K]
    y = corner[:, 1, None] + around
    across = (x + 0.5 - centre[:, 0, None]) ** 2
    down = (y + 0.5 - centre[:, 1, None]) ** 2
    disc = down[:, :, None] + across[:, None, :] <= (radius**2)[:, None, None]
    whole = disc.sum((1, 2))
    inside = ((y >= 0) & (y < size))[:, :, None] & ((x >= 0) & (x < size))[:, None, :]
    which, row, column = np.nonzero(disc & inside)
    return y[which, row] * size + x[which, column], which, whole
