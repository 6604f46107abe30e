"""Scores of the run's tracker on its own test videos."""

import dataclasses
import math
from typing import Any

import numpy as np

from fastvid.eval.tracking import score_tracks
from fastvid.projects.trajectory.config import TokenConfig
from fastvid.projects.trajectory.tokens import find_tracks
from fastvid.projects.trajectory.videos import Videos

GOALS = {"detection_recall": 0.95, "purity": 0.9, "completeness": 0.9}
"""Scores to exceed on the variant seed."""

_MOST = 256  # videos that are scored: their pixels are in memory at once


def tracker_scores(videos: Videos, rows: np.ndarray, config: TokenConfig) -> dict[str, Any] | None:
    """Return the scores of the tracker as JSON values, null where there is nothing to count; None where it is not known
    where the objects are.

    Args:
        videos: all videos.
        rows: the test videos; the first 256 are scored.
        config: tracker and detector.
    """
    footage = videos.read(rows[:_MOST])
    if footage.truth is None:
        return None
    scores = score_tracks(find_tracks(footage, config), footage.truth.boxes, footage.truth.visibility)
    values = dataclasses.asdict(scores)
    return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in values.items()}
