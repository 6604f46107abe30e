"""Tokens: what is known of each object in each frame of some videos."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastvid.random import sample_id
from fastvid.tracks import Tracks

ARRAYS = (
    "ids", "offsets", "frame", "track", "boxes", "velocity", "persistent", "features", "motion", "noise",
)  # fmt: skip
"""Names of the arrays of a :class:`TokenSet`."""


@dataclass(frozen=True)
class TokenSet:
    """The objects of V videos: one token for each object of each frame in which it is seen, N in all.

    Tokens of a video lie together, ordered by frame, then by track.

    Attributes:
        keys: V names.
        ids: int64 [V], :func:`fastvid.random.sample_id` of the names.
        offsets: int64 [V + 1]; video v has the tokens from offsets[v] up to offsets[v + 1].
        frames: T, frames of a video.
        frame: int16 [N].
        track: int16 [N], number of the track within its video, from 0.
        boxes: float32 [N, 4], left, top, right and bottom as fractions of the frame.
        velocity: float32 [N, 2], of the box's centre since the track's previous token, in fractions of the frame per
            frame; 0 at a track's first token.
        persistent: bool [N], whether the object that the token's track mostly follows is persistent: the truth.
        features: float16 [N, D].
        motion: int64 [V], motion class of the video's persistent objects; -1 where it is not known.
        noise: int64 [V], 1 where less than a fifth of the frames have a transient; -1 where it is not known.
    """

    keys: list[str]
    ids: np.ndarray
    offsets: np.ndarray
    frames: int
    frame: np.ndarray
    track: np.ndarray
    boxes: np.ndarray
    velocity: np.ndarray
    persistent: np.ndarray
    features: np.ndarray
    motion: np.ndarray
    noise: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def counts(self) -> np.ndarray:
        """Return int64 [V]: tokens of each video."""
        return np.diff(self.offsets)

    @property
    def dim(self) -> int:
        """Return D, the width of a token's features."""
        dim: int = self.features.shape[1]
        return dim

    def video(self, v: int) -> "TokenSet":
        """Return the tokens of one video."""
        return self.subset([v])

    def rows(self, videos: np.ndarray) -> np.ndarray:
        """Return where the tokens of some videos, int64 [B], are in the set: those of a video together, in order."""
        counts = self.counts[videos]
        begins = np.cumsum(counts) - counts
        found: np.ndarray = np.arange(counts.sum()) + np.repeat(self.offsets[videos] - begins, counts)
        return found

    def subset(self, indices: Sequence[int] | np.ndarray) -> "TokenSet":
        """Return the tokens of some videos, in the order given."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        rows = self.rows(chosen)
        per_token = ("frame", "track", "boxes", "velocity", "persistent", "features")
        return dataclasses.replace(
            self,
            keys=[self.keys[v] for v in chosen],
            offsets=np.concatenate([[0], np.cumsum(self.counts[chosen])]),
            **{name: getattr(self, name)[chosen] for name in ("ids", "motion", "noise")},
            **{name: getattr(self, name)[rows] for name in per_token},
        )


def join_tokens(parts: Sequence[TokenSet]) -> TokenSet:
    """Join sets of different videos into one."""
    ends = np.cumsum([0, *(part.offsets[-1] for part in parts)])
    offsets = [part.offsets[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
    joined = {n: np.concatenate([getattr(part, n) for part in parts]) for n in ARRAYS if n != "offsets"}
    return TokenSet(
        keys=[key for part in parts for key in part.keys], offsets=np.concatenate([*offsets, ends[-1:]]),
        frames=parts[0].frames, **joined,
    )  # fmt: skip


def make_token_set(
    keys: list[str], tracks: Tracks, persistent: np.ndarray, features: np.ndarray, motion: np.ndarray, noise: np.ndarray
) -> TokenSet:
    """Make the tokens of the observed boxes of tracks.

    Args:
        keys: names of the V videos.
        tracks: N boxes, all observed.
        persistent: bool [N].
        features: float [N, D].
        motion: int64 [V].
        noise: int64 [V].
    """
    counts = np.bincount(tracks.video, minlength=len(keys))
    return TokenSet(
        keys=list(keys), ids=np.array([sample_id(key) for key in keys], np.int64),
        offsets=np.concatenate([[0], np.cumsum(counts)]), frames=tracks.frames, frame=tracks.frame.astype(np.int16),
        track=tracks.track.astype(np.int16), boxes=tracks.boxes, velocity=_velocity(tracks), persistent=persistent,
        features=features, motion=motion, noise=noise,
    )  # fmt: skip


def _velocity(tracks: Tracks) -> np.ndarray:
    """Return float32 [N, 2]: how far a track's box moved since its previous one, per frame."""
    order = np.lexsort((tracks.frame, tracks.track, tracks.video))
    video, track, frame = tracks.video[order], tracks.track[order], tracks.frame[order]
    centre = (tracks.boxes[order, :2] + tracks.boxes[order, 2:]) / 2
    same = np.zeros(len(order), bool)
    same[1:] = (video[1:] == video[:-1]) & (track[1:] == track[:-1])
    moved = np.zeros_like(centre)
    moved[1:] = np.diff(centre, axis=0) / np.maximum(np.diff(frame), 1)[:, None]
    velocity: np.ndarray = np.empty_like(centre)
    velocity[order] = np.where(same[:, None], moved, 0)
    return velocity
