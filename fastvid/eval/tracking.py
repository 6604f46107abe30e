"""Scores of a tracker: how many objects it finds, and how well it keeps them apart."""

from dataclasses import dataclass
from typing import Any

import motrics
import numpy as np

from fastvid.tracks.follow import followed_objects, nearest_objects
from fastvid.tracks.tracks import SEEN, Tracks

OVERLAP = 0.5  # intersection over union from which a box counts as the object's
VISIBLE = 0.5  # share of an object that shows, from which it counts as visible and below which as occluded


@dataclass(frozen=True)
class TrackingScores:
    """Scores over many videos. All but the counts are shares, 1 being best; NaN where there is nothing to count.

    Attributes:
        videos: number of videos.
        objects: boxes of objects that show for a quarter at least, in all frames.
        detection_recall: share of the boxes of visible objects, at least half of which shows, that are matched one to
            one by an observed box with an intersection over union of 0.5 or more.
        occluded_recall: the same for all other boxes of objects, also by supposed boxes.
        precision: share of the observed boxes that match an object.
        hota: higher order tracking accuracy (arXiv 2009.07736), a mean over 19 thresholds of overlap.
        deta: its part for detection.
        assa: its part for association.
        idf1: F1 of identities (arXiv 1609.01775).
        mota: multiple object tracking accuracy (Bernardin and Stiefelhagen, 2008); may be negative.
        switches: identity switches, a count.
        purity: share of observed boxes that lie on the object which their track mostly follows.
        completeness: share of the boxes of visible objects that lie on the one track which covers most of their object.
        kept: share of the times an object is hidden and comes back in which the same track takes it up again.
        hidden: number of these times.
    """

    videos: int
    objects: int
    detection_recall: float
    occluded_recall: float
    precision: float
    hota: float
    deta: float
    assa: float
    idf1: float
    mota: float
    switches: int
    purity: float
    completeness: float
    kept: float
    hidden: int


def score_tracks(tracks: Tracks, boxes: np.ndarray, visibility: np.ndarray) -> TrackingScores:
    """Score tracks against known objects.

    The accuracies of whole trackers are summed over videos as TrackEval sums over sequences: counts are added up, and
    AssA is weighted by the true positives.

    Args:
        tracks: of V videos of T frames.
        boxes: float [V, O, T, 4], known boxes as fractions of the frame; without area where there is no object.
        visibility: float [V, O, T], share of the object that shows.

    Raises:
        ValueError: the truth is of other videos than the tracks.
    """
    if boxes.shape[0] != tracks.videos or boxes.shape[2] != tracks.frames or visibility.shape != boxes.shape[:3]:
        raise ValueError(
            f"tracks of {tracks.videos} videos of {tracks.frames} frames, and boxes {boxes.shape} with visibility "
            f"{visibility.shape}: these are of different videos"
        )
    there = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    observed = tracks.seen
    whole = _whole_tracker(_known(boxes, there & (visibility >= SEEN)), _found(observed))
    purity, completeness = _purity(observed, boxes, there & (visibility >= VISIBLE))
    kept, hidden = _kept(observed, boxes, there & (visibility >= SEEN))
    return TrackingScores(
        videos=tracks.videos,
        detection_recall=_recall(_known(boxes, there & (visibility >= VISIBLE)), _found(observed)),
        occluded_recall=_recall(_known(boxes, there & (visibility < VISIBLE)), _found(tracks)),
        purity=purity, completeness=completeness, kept=kept, hidden=hidden, **whole,
    )  # fmt: skip


def _known(boxes: np.ndarray, chosen: np.ndarray) -> list[motrics.Frames]:
    """Return some of the known boxes, by video, as motrics takes them."""
    V, _, T, _ = boxes.shape
    video, frame, number = np.nonzero(chosen.transpose(0, 2, 1))
    return _frames(V, T, video, frame, number, boxes[video, number, frame])


def _found(tracks: Tracks) -> list[motrics.Frames]:
    return _frames(tracks.videos, tracks.frames, tracks.video, tracks.frame, tracks.track, tracks.boxes)


def _frames(videos: int, frames: int, video, frame, number, boxes) -> list[motrics.Frames]:
    ends = np.searchsorted(video * frames + frame, np.arange(1, videos * frames))
    ids = [part.tolist() for part in np.split(number, ends)]
    places = np.split(np.ascontiguousarray(boxes, np.float64), ends)
    return [
        motrics.Frames(ids[v * frames : (v + 1) * frames], places[v * frames : (v + 1) * frames]) for v in range(videos)
    ]


def _whole_tracker(known: list[motrics.Frames], found: list[motrics.Frames]) -> dict[str, Any]:
    counts = np.zeros(8, np.int64)
    matched = missed = extra = associated = np.zeros(1)
    for one, other in zip(known, found, strict=True):
        result = motrics.evaluate(one, other, iou_threshold=OVERLAP)
        clear, identity, hota = result.clear, result.identity, result.hota
        counts += (
            clear.num_gt, clear.num_matches, clear.num_misses, clear.num_false_positives, clear.num_switches,
            identity.idtp, identity.idfp, identity.idfn,
        )  # fmt: skip
        right = np.array(hota.hota_tp_alphas)
        matched, associated = matched + right, associated + right * np.array(hota.assa_alphas)
        missed, extra = missed + np.array(hota.hota_fn_alphas), extra + np.array(hota.hota_fp_alphas)
    objects, matches, misses, false, switches, idtp, idfp, idfn = map(int, counts)
    deta = matched / np.maximum(matched + missed + extra, 1)
    assa = associated / np.maximum(matched, 1)
    nothing = not objects
    return {
        "objects": objects, "precision": _share(matches, matches + false), "switches": switches,
        "hota": np.nan if nothing else float(np.sqrt(deta * assa).mean()),
        "deta": np.nan if nothing else float(deta.mean()), "assa": np.nan if nothing else float(assa.mean()),
        "idf1": _share(idtp, idtp + 0.5 * idfp + 0.5 * idfn),
        "mota": np.nan if nothing else 1 - (misses + false + switches) / objects,
    }  # fmt: skip


def _recall(known: list[motrics.Frames], found: list[motrics.Frames]) -> float:
    matches = objects = 0
    for one, other in zip(known, found, strict=True):
        clear = motrics.compute_clear(one.ids, one.boxes, other.ids, other.boxes, OVERLAP)
        matches, objects = matches + clear.num_matches, objects + clear.num_gt
    return _share(matches, objects)


def _purity(observed: Tracks, boxes: np.ndarray, visible: np.ndarray) -> tuple[float, float]:
    nearest, followed = nearest_objects(observed, boxes), followed_objects(observed, boxes)
    right = (nearest == followed) & (nearest >= 0)
    # Of each object, how many of its boxes lie on each track, and the most on one.
    group, _ = observed.groups()
    on = nearest >= 0
    on[on] = visible[observed.video[on], nearest[on], observed.frame[on]]
    pairs = np.stack([observed.video[on], nearest[on], group[on]])
    found, counts = np.unique(pairs, axis=1, return_counts=True)
    most = np.zeros(visible.shape[:2], np.int64)
    np.maximum.at(most, (found[0], found[1]), counts)
    return _share(int(right.sum()), len(observed)), _share(int(most.sum()), int(visible.sum()))


def _kept(observed: Tracks, boxes: np.ndarray, seen: np.ndarray) -> tuple[float, int]:
    """Return how often the track after an object was hidden is the one from before, and how often objects were."""
    nearest = nearest_objects(observed, boxes)
    on = nearest >= 0
    holder = np.full(seen.shape, -1)
    holder[observed.video[on], nearest[on], observed.frame[on]] = observed.track[on]
    before = np.full(seen.shape[:2], -2)  # the track when the object was last seen
    was_seen, gone = np.zeros(seen.shape[:2], bool), np.zeros(seen.shape[:2], bool)
    kept = times = 0
    for frame in range(seen.shape[2]):
        now, track = seen[..., frame], holder[..., frame]
        back = now & gone
        times += int(back.sum())
        kept += int((back & (track == before) & (track >= 0)).sum())
        gone = ~now & (gone | was_seen)
        before = np.where(now, track, before)
        was_seen = now
    return _share(kept, times), times


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
