"""The tracks of a set of tokens."""

from dataclasses import dataclass

import numpy as np

from fastvid.projects.trajectory.token_set import TokenSet


@dataclass(frozen=True)
class TrackTable:
    """The n tracks of a set of tokens.

    Attributes:
        video: int64 [n].
        track: int64 [n], number within the video.
        birth: int64 [n], frame of the first token.
        persistent: bool [n].
        seen: bool [n, T], whether there is a token in each frame.
        row: int64 [N], the track of each token, as a row of this table.
    """

    video: np.ndarray
    track: np.ndarray
    birth: np.ndarray
    persistent: np.ndarray
    seen: np.ndarray
    row: np.ndarray

    @classmethod
    def from_tokens(cls, tokens: TokenSet) -> "TrackTable":
        """Return the tracks, ordered by video and number."""
        video = np.repeat(np.arange(len(tokens.keys)), np.diff(tokens.offsets))
        pairs = np.stack([video, tokens.track.astype(np.int64)], 1)
        names, first, row = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
        row = row.reshape(-1)
        seen = np.zeros((len(names), tokens.frames), dtype=bool)
        seen[row, tokens.frame] = True
        return cls(names[:, 0], names[:, 1], seen.argmax(1), tokens.persistent[first], seen, row)

    def __len__(self) -> int:
        return len(self.video)
