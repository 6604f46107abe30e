"""Detection and tracking of small objects in still scenes, on NumPy and SciPy: from frames to tracks."""

from fastvid.tracks.tracks import Tracks

__all__ = ["Tracks"]
