"""Scenes of the demo: which tiles a clip has, where they are in each frame and which letters they show, before any
pixel is drawn.

Small coloured tiles lie on a grid of cells. A tile keeps its colour, moves by at most one cell a frame, and shows
another letter in every frame. Each letter is the initial of a colour. Two tasks ask about a clip: *tiles* is to read
the tile of a colour in every frame; *chain* begins at the tile of a colour, and its letter names the colour of the tile
to read in the next frame, so that where to look depends on what was just seen.

A scene is a pure function of (seed, index).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from fastvid.draws import uniforms, whole
from fastvid.projects.fvlm.glyphs import COLOURS
from fastvid.ranges import Count, Natural, Range

Background = Literal["plain", "texture", "moving"]
Task = Literal["tiles", "chain"]
TASKS: tuple[Task, ...] = ("tiles", "chain")
_KINDS, _STARTS, _STEPS, _GLYPHS = range(4)  # Philox streams; the next ones are of the pictures


@dataclass(frozen=True)
class SceneConfig:
    """The demo's clips."""

    frames: Count = 6
    """Frames of a clip."""
    cells: Annotated[int, Range(2, 32)] = 6
    """Cells of 16 pixels along a side of the square frame."""
    tiles: Annotated[int, Range(1, len(COLOURS))] = 8
    """Most tiles of a clip."""
    background: Background = "plain"
    """plain: one grey. texture: soft patches, another picture for each clip. moving: the patches drift."""
    jitter: Annotated[int, Range(0, 7)] = 0
    """Pixels by which a tile is off its cell at most, drawn for each tile and frame. Tiles may then overlap."""
    train: Count = 16_000
    """Clips to train with: an eighth of one tile in one frame, a quarter of one frame, a quarter of two, and the rest
    as hard as those of the test."""
    val: Count = 128
    """Clips to validate with, which have all frames and the most tiles."""
    test: Count = 512
    """Clips to test with, which have all frames and the most tiles."""
    seed: Natural = 0
    """Seed of the clips. Runs with different run.seed share them."""

    def __post_init__(self) -> None:
        if self.tiles >= self.cells**2:
            raise ValueError(f"{self.tiles} tiles do not fit on {self.cells} x {self.cells} cells and move")
        if self.train < 16:
            raise ValueError(f"{self.train} clips to train with are too few: there are two tasks and four parts")

    @property
    def size(self) -> int:
        """Return the side of the frame in pixels."""
        return 16 * self.cells


@dataclass(frozen=True)
class Scenes:
    """V scenes of T frames with at most O tiles each.

    Attributes:
        config: what they are drawn by.
        indices: int64 [V], numbers of the clips.
        chain: bool [V]: whether every letter that is shown names the colour of a tile of the clip, so that both tasks
            can be asked; *tiles* alone otherwise.
        tiles: int64 [V], number of tiles; those with a lower number exist.
        colour: int64 [V, O], position in ``COLOURS``; no two tiles of a clip share one.
        cell: int64 [V, O, T], the number of the tile's cell, row by row; no two tiles of a frame share one.
        letter: int64 [V, O, T], position in ``LETTERS``; no two tiles of a frame share one.
    """

    config: SceneConfig
    indices: np.ndarray
    chain: np.ndarray
    tiles: np.ndarray
    colour: np.ndarray
    cell: np.ndarray
    letter: np.ndarray

    @property
    def exists(self) -> np.ndarray:
        """Return bool [V, O]: which tiles there are."""
        exists: np.ndarray = np.arange(self.colour.shape[1]) < self.tiles[:, None]
        return exists


def draw_scenes(config: SceneConfig, indices: np.ndarray, tiles: np.ndarray | int | None = None) -> Scenes:
    """Draw the scenes with these numbers. Those with an odd number are made for the task chain. With less frames a
    scene is the beginning of what it is with more.

    Args:
        config: size and difficulty.
        indices: int64 [V].
        tiles: how many tiles each clip has, int64 [V] or one number; default: half have the most, the others any
            number.

    Raises:
        ValueError: more tiles than ``config.tiles``, or less than one.
    """
    indices = np.asarray(indices, np.int64)
    kind = uniforms(config.seed, indices, (1 + len(COLOURS),), _KINDS)
    drawn = np.where(kind[:, 0] < 0.5, config.tiles, whole(2 * kind[:, 0] - 1, 1, config.tiles))
    number = drawn if tiles is None else np.broadcast_to(np.asarray(tiles, np.int64), indices.shape)
    if number.size and not 1 <= number.min() <= number.max() <= config.tiles:
        raise ValueError(f"a clip has 1 to {config.tiles} tiles; got {number.min()} to {number.max()}")
    # Of all colours, whatever the number of tiles: what eight tiles of eight colours show fits into one token whole, so
    # that a query which knows no question could answer them all.
    colour = np.argsort(kind[:, 1:], axis=1)[:, : config.tiles]
    chain = indices % 2 == 1
    letter = _letters(config, indices, colour, number, chain)
    return Scenes(config, indices, chain, number, colour, _paths(config, indices, number), letter)


def _letters(
    config: SceneConfig, indices: np.ndarray, colour: np.ndarray, number: np.ndarray, chain: np.ndarray
) -> np.ndarray:
    """Return int64 [V, O, T]: in each frame a shuffle of all letters, or for chain of those that name tiles."""
    order = uniforms(config.seed, indices, (config.frames, len(COLOURS)), _GLYPHS)
    own = np.zeros((len(indices), len(COLOURS)), bool)
    rows, slots = np.nonzero(np.arange(config.tiles) < number[:, None])
    own[rows, colour[rows, slots]] = True
    usable = own | ~chain[:, None]
    shuffled = np.argsort(np.where(usable[:, None], order, 2.0), axis=2)[..., : config.tiles]
    return np.moveaxis(shuffled, 1, 2)


def _paths(config: SceneConfig, indices: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Return int64 [V, O, T], the cells of each tile."""
    V, T, side = len(indices), config.frames, config.cells
    start = np.argsort(uniforms(config.seed, indices, (side * side,), _STARTS), axis=1)[:, : config.tiles]
    step = whole(uniforms(config.seed, indices, (T, config.tiles, 2), _STEPS), -1, 1)
    cell = np.empty((V, config.tiles, T), np.int64)
    cell[:, :, 0] = start
    taken = np.zeros((V, side * side), np.int64)  # number of tiles on each cell
    clips = np.arange(V)
    for slot in range(config.tiles):
        taken[clips, start[:, slot]] += slot < number
    for frame in range(1, T):
        for slot in range(config.tiles):  # one after the other: a tile stays where its way is blocked
            now = cell[:, slot, frame - 1]
            row, column = now // side + step[:, frame, slot, 0], now % side + step[:, frame, slot, 1]
            inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
            wish = np.where(inside, row * side + column, now)
            new = np.where(taken[clips, wish] == 0, wish, now)
            taken[clips, now] -= slot < number
            taken[clips, new] += slot < number
            cell[:, slot, frame] = new
    return cell
