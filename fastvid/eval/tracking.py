"""Scores of a tracker: how many objects it finds, and how well it keeps them apart."""

from dataclasses import dataclass

import numpy as np

from fastvid.tracks.follow import nearest_objects, overlaps
from fastvid.tracks.tracks import Tracks

OVERLAP = 0.5  # intersection over union from which a box counts as found
VISIBLE = 0.5  # share of an object that shows, from which it counts as visible and below which as occluded


@dataclass(frozen=True)
class TrackingScores:
    """Scores over many videos; all but the counts are shares, 1 being best, NaN where there is nothing to count.

    Attributes:
        videos: number of videos.
        objects: boxes of objects that were to be found.
        detection_recall: share of visible objects' boxes, over all frames, that a box of the tracker matches one to one.
        occluded_recall: the same for occluded ones, of which at most half shows.
        precision: share of the tracker's boxes that match an object.
        hota: higher order tracking accuracy (Luiten et al., arXiv 2009.07736), a mean over 19 thresholds of overlap.
        deta: its part for detection.
        assa: its part for association.
        idf1: F1 of identities (Ristani et al., arXiv 1609.01775).
        mota: multiple object tracking accuracy (Bernardin and Stiefelhagen, 2008); may be negative.
        switches: identity switches, a count.
        purity: share of the observed boxes of all tracks that lie on the object which their track mostly follows.
        completeness: share of the visible boxes of all objects that the track has which covers most of the object.
        occluded_kept: share of the times an object is hidden and comes back in which the same track takes it up again.
        hidden_times: how often that happened, a count.
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
    occluded_kept: float
    hidden_times: int
