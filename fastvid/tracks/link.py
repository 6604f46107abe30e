"""Linking: which blobs of a video are the same object's, by Hungarian assignment to tracks of constant velocity."""

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from fastvid.tracks.blobs import Detections
from fastvid.tracks.tracks import Tracks, make_tracks

_COASTS = 6  # frames that a track goes on without being observed: the longest time behind something
_REACH = 0.25  # of the frame: how far from the expected place a blob may be, for a track without a velocity yet
_SURE = 0.2  # likewise, for one that has a velocity
_WIDER = 0.03  # added to this in each frame that the track was not observed
_COLOUR = 0.25  # greatest difference of mean colours, in [0, sqrt(3)]
_WEIGH = 0.5  # what a difference in colour of 1 costs, as a share of the frame


@dataclass
class _Track:
    """A track that is being made.

    Attributes:
        number: of the track in its video.
        centre: float [2], where it was observed last.
        size: float [2], width and height there.
        colour: float [3].
        frame: of the last observation.
        velocity: per frame.
        seen: number of observations.
    """

    number: int
    centre: np.ndarray
    size: np.ndarray
    colour: np.ndarray
    frame: int
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))
    seen: int = 1


def link(detections: Detections) -> Tracks:
    """Link blobs to tracks, one video after the other.

    In every frame blobs are assigned to tracks so that the sum of distances from where the tracks are expected, and of
    differences in colour, is smallest. A track that gets no blob goes on at constant velocity for up to 6 frames: that
    is how objects that pass behind something, or merge into one blob with another object, keep their identity. Where
    the object comes back, the frames between become supposed boxes. A blob that fits no track begins a new one.
    """
    found: list[tuple[int, int, int, np.ndarray, bool, np.ndarray]] = []
    starts = np.searchsorted(detections.video, np.arange(detections.videos + 1))
    for video in range(detections.videos):
        some = slice(starts[video], starts[video + 1])
        _link_video(video, detections.frame[some], detections.boxes[some], detections.colour[some], found)
    if not found:
        empty = np.zeros(0, np.int64)
        nothing = np.zeros((0, 4), np.float32)
        return make_tracks(detections.videos, detections.frames, empty, empty, empty, nothing, empty)
    video_, frame, track, boxes, observed, colour = (np.array(column) for column in zip(*found, strict=True))
    return make_tracks(detections.videos, detections.frames, video_, frame, track, boxes, observed, colour)


def _link_video(video: int, frames: np.ndarray, boxes: np.ndarray, colours: np.ndarray, found: list) -> None:
    """Append the boxes of one video's tracks to ``found``."""
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    tracks: list[_Track] = []
    count = 0
    for frame in np.unique(frames):
        rows = np.flatnonzero(frames == frame)
        tracks = [track for track in tracks if frame - track.frame <= _COASTS + 1]
        pairs = _assign(tracks, centres[rows], colours[rows], frame) if tracks else []
        taken = set()
        for number, place in pairs:
            track, row = tracks[number], rows[place]
            taken.add(row)
            _fill(video, track, frame, centres[row], sizes[row], found)
            _observe(track, frame, centres[row], sizes[row], colours[row])
            found.append((video, frame, track.number, boxes[row], True, colours[row]))
        for row in rows:
            if row not in taken:
                tracks.append(_Track(count, centres[row], sizes[row], colours[row], frame))
                found.append((video, frame, count, boxes[row], True, colours[row]))
                count += 1


def _assign(tracks: list[_Track], centres: np.ndarray, colours: np.ndarray, frame: int) -> list[tuple[int, int]]:
    """Return pairs of a track and a blob of this frame."""
    ages = np.array([frame - track.frame for track in tracks])
    expected = np.stack([track.centre for track in tracks])
    expected = expected + np.stack([track.velocity for track in tracks]) * ages[:, None]
    sure = np.array([track.seen > 1 for track in tracks])
    reach = np.where(sure, _SURE + _WIDER * (ages - 1), _REACH)
    distance = np.linalg.norm(expected[:, None] - centres[None], axis=-1)
    shade = np.linalg.norm(np.stack([track.colour for track in tracks])[:, None] - colours[None], axis=-1)
    possible = (distance <= reach[:, None]) & (shade <= _COLOUR)
    if not possible.any():
        return []
    cost = np.where(possible, distance + _WEIGH * shade, 1e3)
    left, right = linear_sum_assignment(cost)
    return [(a, b) for a, b in zip(left, right, strict=True) if possible[a, b]]


def _fill(video: int, track: _Track, frame: int, centre: np.ndarray, size: np.ndarray, found: list) -> None:
    """Append supposed boxes for the frames since the track's last observation, on a straight way."""
    gap = frame - track.frame
    for step in range(1, gap):
        share = step / gap
        middle = track.centre + (centre - track.centre) * share
        half = (track.size + (size - track.size) * share) / 2
        box = np.concatenate([middle - half, middle + half])
        found.append((video, track.frame + step, track.number, box, False, np.zeros(3, np.float32)))


def _observe(track: _Track, frame: int, centre: np.ndarray, size: np.ndarray, colour: np.ndarray) -> None:
    track.velocity = (centre - track.centre) / (frame - track.frame)
    track.centre, track.size, track.colour, track.frame = centre, size, colour, frame
    track.seen += 1
