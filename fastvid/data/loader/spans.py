"""Views of parts of videos."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fastvid.data.loader.padded_views import PaddedEvaluation
from fastvid.data.source import Sample
from fastvid.video import VideoMetadata, View

Span = tuple[float, float]
"""First and last second of a part of a video."""


@dataclass(frozen=True)
class SpanEvaluation(PaddedEvaluation):
    """The centre view of a part of each video.

    Attributes:
        spans: the part of each sample that is shown, by its key; the whole of samples that it does not name.
    """

    spans: Mapping[str, Span] = field(default_factory=dict)

    def views(self, sample: Sample, info: VideoMetadata) -> list[View]:
        span = self.spans.get(sample.key)
        if span is None:
            return super().views(sample, info)
        first, part = within(info, span)
        views = super().views(sample, part)
        return [replace(view, frames=tuple(first + frame for frame in view.frames)) for view in views]


def within(info: VideoMetadata, span: Span) -> tuple[int, VideoMetadata]:
    """Return the first frame of a part of a video, which is on screen at its first second, and the metadata of the part
    alone. A part behind the video's end is its last frame."""
    first = min(max(int(np.searchsorted(info.times, span[0], side="right")) - 1, 0), info.frames - 1)
    frames = max(1, int(np.searchsorted(info.times, span[1], side="right")) - first)
    pts = None if info.pts is None else info.pts[first : first + frames]
    seconds = max(0.0, min(span[1], info.duration) - float(info.times[first]))
    return first, replace(info, frames=frames, pts=pts, order=None, duration=seconds)
