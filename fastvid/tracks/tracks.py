"""Tracks: which box of which frame is the same object's."""

from dataclasses import dataclass

import numpy as np

SEEN = 0.25  # an object counts as seen in a frame where at least this share of it shows


@dataclass(frozen=True)
class Tracks:
    """The boxes of the tracks of some videos, N in all, ordered by video, then frame, then track.

    Attributes:
        videos: V, number of videos.
        frames: T, frames of each.
        video: int64 [N], in [0, V).
        frame: int64 [N], in [0, T).
        track: int64 [N], number of the track within its video, from 0 in the order of first appearance.
        boxes: float32 [N, 4], left, top, right and bottom as fractions of the frame.
        observed: bool [N], whether the object was seen there; else the box is where it is supposed to be.
        colour: float32 [N, 3], mean RGB in [0, 1] of the object's pixels; zero where it was not observed.
    """

    videos: int
    frames: int
    video: np.ndarray
    frame: np.ndarray
    track: np.ndarray
    boxes: np.ndarray
    observed: np.ndarray
    colour: np.ndarray

    def __post_init__(self):
        order = np.lexsort((self.track, self.frame, self.video))
        if not np.array_equal(order, np.arange(len(order))):
            raise ValueError("the boxes of tracks must be ordered by video, then frame, then track")

    def __len__(self) -> int:
        return len(self.video)

    @property
    def seen(self) -> "Tracks":
        """Return the boxes that were observed, without those that are supposed."""
        return self.where(self.observed)

    def where(self, chosen: np.ndarray) -> "Tracks":
        """Return the boxes for which bool [N] is true."""
        arrays = (self.video, self.frame, self.track, self.boxes, self.observed, self.colour)
        return Tracks(self.videos, self.frames, *(array[chosen] for array in arrays))

    def groups(self) -> tuple[np.ndarray, int]:
        """Return int64 [N], a number for each box that is the same for all boxes of one track, and how many tracks
        there are.
        """
        _, group = np.unique(np.stack([self.video, self.track]), axis=1, return_inverse=True)
        group = group.reshape(-1)
        return group, int(group.max(initial=-1)) + 1


def make_tracks(
    videos: int,
    frames: int,
    video: np.ndarray,
    frame: np.ndarray,
    track: np.ndarray,
    boxes: np.ndarray,
    observed: np.ndarray,
    colour: np.ndarray | None = None,
) -> Tracks:
    """Make :class:`Tracks` of boxes in any order, whose tracks have any numbers: they are ordered and numbered anew."""
    order = np.lexsort((track, frame, video))
    video, frame, track = (np.asarray(array, np.int64)[order] for array in (video, frame, track))
    number = _by_appearance(video, track)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)[order]
    seen = np.asarray(observed, bool)[order]
    shade = np.zeros((len(order), 3), np.float32) if colour is None else np.asarray(colour, np.float32)[order]
    again = np.lexsort((number, frame, video))
    arrays = (video, frame, number, boxes, seen, shade)
    return Tracks(videos, frames, *(array[again] for array in arrays))


def truth_tracks(boxes: np.ndarray, visibility: np.ndarray, least: float = SEEN) -> Tracks:
    """Make tracks of known boxes: what a tracker without any error would find.

    Args:
        boxes: float [V, O, T, 4], as fractions of the frame; without area where an object does not exist.
        visibility: float [V, O, T], share of the object that shows.
        least: an object counts as observed where at least this share of it shows. Where less does, the box stays as one
            that is not observed, if the object is observed before and after.
    """
    V, _, T, _ = boxes.shape
    there = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    seen = there & (visibility >= least)
    before = np.logical_or.accumulate(seen, axis=2)
    after = np.logical_or.accumulate(seen[:, :, ::-1], axis=2)[:, :, ::-1]
    video, track, frame = np.nonzero(there & before & after)
    return make_tracks(V, T, video, frame, track, boxes[video, track, frame], seen[video, track, frame])


def _by_appearance(video: np.ndarray, track: np.ndarray) -> np.ndarray:
    """Return new numbers of the tracks, in each video in the order of first appearance; boxes are ordered by frame."""
    if not len(video):
        return np.zeros(0, np.int64)
    _, first, group = np.unique(np.stack([video, track]), axis=1, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    number = rank[group.reshape(-1)]
    starts = np.flatnonzero(np.diff(video, prepend=video[0] - 1))
    return number - np.repeat(number[starts], np.diff(starts, append=len(video)))
