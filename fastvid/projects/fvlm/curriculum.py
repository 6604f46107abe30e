"""The demo's curriculum: which part of its training clips a batch is of."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PartsInTurn:
    """Shares of the parts of the training clips: a pure function of the batch's number. One part after the other.

    Attributes:
        batches: batches of each part but the last, which all further ones are of.
    """

    batches: tuple[int, ...]

    def __call__(self, batches: np.ndarray) -> np.ndarray:
        part = np.searchsorted(np.cumsum(self.batches), batches, side="right")
        shares: np.ndarray = np.eye(len(self.batches) + 1)[part]
        return shares
