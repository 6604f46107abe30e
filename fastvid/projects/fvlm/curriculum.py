"""The demo's curriculum: how the levels of difficulty are mixed in each batch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LevelShares:
    """Shares of the levels 1 to ``levels``: a pure function of the batch's number.

    The first ``hold`` batches are of level 1. Then the highest level in use grows evenly to ``levels`` over ``rise``
    batches. ``top`` of each batch are of it, and the rest of all lower levels alike.

    Attributes:
        levels: number of levels.
        rise: batches from there until the highest level is reached.
        top: share of the highest level in use.
        hold: batches of level 1 at the start.
    """

    levels: int
    rise: int
    top: float = 0.5
    hold: int = 0

    def __call__(self, batches: np.ndarray) -> np.ndarray:
        since = np.maximum(0, batches - self.hold)
        highest = np.minimum(self.levels, 1 + since * self.levels // max(1, self.rise))
        level = np.arange(1, self.levels + 1)
        lower = (level < highest[:, None]) * ((1 - self.top) / np.maximum(1, highest[:, None] - 1))
        shares: np.ndarray = lower + (level == highest[:, None]) * self.top
        return shares
