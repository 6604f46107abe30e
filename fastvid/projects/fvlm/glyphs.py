"""The letters on the demo's tiles, and the colours that they name."""

import numpy as np

COLOURS = {
    "red": (235, 60, 50),
    "green": (50, 185, 70),
    "blue": (75, 115, 255),
    "yellow": (255, 225, 25),
    "orange": (245, 135, 30),
    "cyan": (70, 230, 240),
    "magenta": (240, 55, 230),
    "white": (245, 245, 245),
    "pink": (255, 185, 205),
    "lime": (190, 255, 90),
    "teal": (0, 140, 140),
    "violet": (150, 90, 240),
}
"""RGB of each colour, by its name. The letter that names a colour is its initial."""

LETTERS = [name[0].upper() for name in COLOURS]
"""The letters, in the order of the colours that they name."""

CELL = 16
"""Side of a cell in pixels: that of a patch of the usual encoders."""

_BITMAPS = """
#####. .##### ####.. #....# .####. .##### ##..## #....# #####. ##.... ###### ##..##
#....# #..... #...#. ##..## #....# ##.... ###### #....# ##..## ##.... ###### ##..##
#....# #..... #####. .####. #....# #..... #.##.# #.##.# ##..## ##.... ..##.. ##..##
#####. #..### #....# ..##.. #....# #..... #.##.# #.##.# #####. ##.... ..##.. .####.
#..##. #....# #....# ..##.. #....# ##.... #....# ###### ##.... ###### ..##.. .####.
#...## .##### #####. ..##.. .####. .##### #....# .#..#. ##.... ###### ..##.. ..##..
"""


def _letters() -> np.ndarray:
    rows = [line.split() for line in _BITMAPS.strip().splitlines()]
    drawn = np.array([[[pixel == "#" for pixel in rows[y][n]] for y in range(6)] for n in range(len(LETTERS))])
    return drawn.repeat(2, axis=1).repeat(2, axis=2)


def tile_bitmaps() -> tuple[np.ndarray, np.ndarray]:
    """Return what a tile covers of its cell, bool [16, 16], and what each letter covers of it, bool [12, 16, 16]."""
    tile = np.zeros((CELL, CELL), bool)
    tile[1:-1, 1:-1] = True
    letters = np.zeros((len(LETTERS), CELL, CELL), bool)
    letters[:, 2:-2, 2:-2] = _letters()
    return tile, letters
