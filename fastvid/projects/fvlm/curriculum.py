"""The demo's curriculum: how the levels of difficulty are mixed in each batch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LevelShares:
    """Shares of the demo's levels: a pure function of the batch's number.

    Levels 1 to ``tiles`` are clips of one frame with so many tiles; those after them are clips of 2 to ``frames``
    frames. The first ``hold`` batches have one tile. Then the most tiles grow evenly over ``rise`` batches, and after
    them the most frames over ``frames_rise``. ``top`` of a batch have the most so far, the rest any number up to it.

    So what is to be learnt comes apart: to read a letter, to look where the question says, and to keep the frames of an
    answer in order. All at once they are learnt late, or not at all.

    Attributes:
        tiles: most tiles of all.
        frames: most frames of all.
        hold: batches of the first level.
        rise: batches from there until clips have the most tiles.
        frames_rise: batches from there until they have the most frames.
        top: share of each batch that has the most so far.
    """

    tiles: int
    frames: int
    hold: int
    rise: int
    frames_rise: int
    top: float = 0.5

    def __call__(self, batches: np.ndarray) -> np.ndarray:
        since = np.maximum(0, batches - self.hold)
        tiles = np.minimum(self.tiles, 1 + since * self.tiles // max(1, self.rise))
        later = since - self.rise
        frames = np.where(later < 0, 1, 2 + np.maximum(0, later) * (self.frames - 1) // max(1, self.frames_rise))
        of_frames = self._shares(np.minimum(self.frames, frames), self.frames)
        single = self._shares(tiles, self.tiles)
        return np.concatenate([of_frames[:, :1] * single, of_frames[:, 1:]], axis=1)

    def _shares(self, most: np.ndarray, count: int) -> np.ndarray:
        """Return float64 [G, count]: the shares of 1 to ``count`` where ``most`` [G] is the most so far."""
        number = np.arange(1, count + 1)
        shares: np.ndarray = self.top * (number == most[:, None])
        return shares + (1 - self.top) * (number <= most[:, None]) / most[:, None]
