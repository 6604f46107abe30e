"""Linking by norfair, for comparison: a Kalman filter for each object, greedy assignment by distance."""

import numpy as np

from fastvid.tracks.blobs import Detections
from fastvid.tracks.tracks import Tracks, make_tracks

_REACH = 0.2  # of the frame: farthest from the expected place that a blob may be
_COASTS = 6  # frames that a track goes on without being observed


def link_with_norfair(detections: Detections) -> Tracks:
    """Link blobs to tracks with the package ``norfair-enough``; what it supposes between observations is left out.

    Raises:
        ValueError: the package is not installed.
    """
    try:
        import norfair
    except ImportError:
        raise ValueError(
            "the tracker norfair needs the package norfair-enough: pip install 'fastvid[norfair]', or choose the "
            "tracker hungarian"
        ) from None
    middles = (detections.boxes[:, :2] + detections.boxes[:, 2:]) / 2
    track = np.full(len(middles), -1, np.int64)
    starts = np.searchsorted(
        detections.video * detections.frames + detections.frame, np.arange(detections.videos * detections.frames + 1)
    )
    for video in range(detections.videos):
        # No delay: an object that is seen in one frame only is a track too.
        tracker = norfair.Tracker(
            distance_function="euclidean", distance_threshold=_REACH, hit_counter_max=_COASTS, initialization_delay=0
        )
        for frame in range(detections.frames):
            place = video * detections.frames + frame
            rows = range(starts[place], starts[place + 1])
            objects = [norfair.Detection(points=middles[row][None].astype(float), data=row) for row in rows]
            for found in tracker.update(detections=objects):
                row = found.last_detection.data
                if row in rows and found.global_id is not None:
                    track[row] = found.global_id
    linked = track >= 0
    # A blob that norfair gave to no object would be lost: it is a track of its own.
    track[~linked] = track.max(initial=0) + 1 + np.arange((~linked).sum())
    return make_tracks(
        detections.videos, detections.frames, detections.video, detections.frame, track, detections.boxes,
        np.ones(len(track), bool), detections.colour,
    )  # fmt: skip
