"""Assignment of tracks to the objects they follow, by overlap with known boxes."""

import numpy as np

from fastvid.tracks.tracks import Tracks


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes [..., 4] with others [..., 4], which broadcast together."""
    low, high = np.maximum(boxes[..., :2], others[..., :2]), np.minimum(boxes[..., 2:], others[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) + np.prod(others[..., 2:] - others[..., :2], axis=-1)
    return shared / np.maximum(areas - shared, 1e-12)


def nearest_objects(tracks: Tracks, boxes: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Return int64 [N]: for each box of the tracks the known object of that frame with the greatest overlap, or -1
    where no overlap exceeds ``least``.

    Args:
        tracks: N boxes of V videos.
        boxes: float [V, O, T, 4], known boxes as fractions of the frame; without area where there is no object.
        least: intersection over union.
    """
    known = boxes[tracks.video, :, tracks.frame]  # [N, O, 4]
    overlap = overlaps(tracks.boxes[:, None], known)
    if not overlap.size:
        return np.full(len(tracks), -1)
    best = overlap.argmax(1)
    return np.where(overlap[np.arange(len(best)), best] > least, best, -1)


def followed_objects(tracks: Tracks, boxes: np.ndarray) -> np.ndarray:
    """Return int64 [N]: the object that each box's track mostly follows, the same for all boxes of a track; -1 where it
    overlaps with none.

    Frames in which the track was not observed do not count. Of two objects that are followed as long, it is the one
    with the lower number. Arguments as for :func:`nearest_objects`.
    """
    nearest = nearest_objects(tracks, boxes)
    group, count = tracks.groups()
    votes = np.zeros((count, boxes.shape[1] + 1), np.int64)
    np.add.at(votes, (group[tracks.observed], nearest[tracks.observed]), 1)  # -1 is the last column
    chosen = votes[:, :-1].argmax(1) if boxes.shape[1] else np.zeros(count, np.int64)
    chosen = np.where(votes[:, :-1].sum(1) > 0, chosen, -1)
    return chosen[group]
