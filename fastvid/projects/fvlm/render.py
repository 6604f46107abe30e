"""The pictures of the demo's scenes, many clips at once."""

import numpy as np

from fastvid.draws import between, uniforms, whole
from fastvid.projects.fvlm.glyphs import CELL, COLOURS, tile_bitmaps
from fastvid.projects.fvlm.scenes import Scenes

_LOOK, _TEXTURE, _JITTER = range(4, 7)  # Philox streams; those before are of the scenes
_PLAIN = 56  # grey
_PATCH = 24  # pixels between the points of a texture
_DRIFT = 2.0  # most pixels a frame of a moving texture


def render(scenes: Scenes) -> np.ndarray:
    """Render all frames of some scenes.

    Returns:
        uint8 [V, T, H, W, 3].
    """
    config = scenes.config
    V, T, size = len(scenes.indices), config.frames, config.size
    frames = np.empty((V, T, size, size, 3), np.uint8)
    frames[:] = _background(scenes)[..., None]
    tile, letters = tile_bitmaps()
    v, o = np.nonzero(scenes.exists)
    v, o, t = (a.reshape(-1) for a in np.broadcast_arrays(v[:, None], o[:, None], np.arange(T)))
    top, left = (CELL * place for place in np.divmod(scenes.cell[v, o, t], config.cells))
    if config.jitter:
        offset = whole(
            uniforms(config.seed, scenes.indices, (T, config.tiles, 2), _JITTER), -config.jitter, config.jitter
        )
        top, left = ((a + offset[v, t, o, k]).clip(0, size - CELL) for k, a in enumerate((top, left)))
    # All pixels of all tiles at once: the letter is black, the rest of the tile has its colour.
    row, column = np.nonzero(tile)
    ink = letters[scenes.letter[v, o, t]][:, row, column]
    colours = np.array(list(COLOURS.values()), np.uint8)[scenes.colour[v, o]]
    place = ((v * T + t)[:, None] * size + top[:, None] + row) * size + left[:, None] + column
    frames.reshape(-1, 3)[place] = np.where(ink[..., None], np.uint8(0), colours[:, None])
    return frames


def _background(scenes: Scenes) -> np.ndarray:
    """Return uint8 that broadcasts to [V, T, H, W]."""
    config = scenes.config
    if config.background == "plain":
        return np.full((1, 1, 1, 1), _PLAIN, np.uint8)
    size, T = config.size, config.frames
    moving = config.background == "moving"
    reach = _DRIFT * (T - 1) if moving else 0.0
    points = int((size + 2 * reach) // _PATCH) + 2
    lattice = between(uniforms(config.seed, scenes.indices, (points, points), _TEXTURE), -26, 26)
    look = uniforms(config.seed, scenes.indices, (3,), _LOOK)
    shift = np.arange(T if moving else 1)[:, None] * between(look[:, None, 1:], -_DRIFT, _DRIFT) + reach  # [V, T, 2]
    at = (np.arange(size) + shift[..., None]) / _PATCH
    low = at.astype(np.int64)
    weight = at - low
    weight = weight * weight * (3 - 2 * weight)
    mix = np.zeros((*at.shape, points))  # [V, T, 2, size, points], the two points on either side of each pixel
    np.put_along_axis(mix, low[..., None], 1 - weight[..., None], -1)
    np.put_along_axis(mix, low[..., None] + 1, weight[..., None], -1)
    texture = mix[:, :, 0] @ lattice[:, None] @ mix[:, :, 1].swapaxes(-1, -2)
    grey: np.ndarray = np.rint(texture + between(look[:, :1, None, None], 40, 100)).astype(np.uint8)
    return grey
