"""Views whose frames never repeat: what a short video lacks is padding at the end of the clip."""

from dataclasses import dataclass, replace
from typing import Any

from fastvid.data.loader.views import EvaluationDraws, ViewDraws
from fastvid.data.source import Sample
from fastvid.video import VideoMetadata, View, ViewSpec


@dataclass(frozen=True)
class PaddedDraws(ViewDraws):
    """Random views of at most as many frames as the video has.

    Attributes:
        fps: most frames taken of each second of the video, beside ``spec.frames`` of all of it; default: no limit.
    """

    fps: float | None = None

    @property
    def fingerprint(self) -> dict[str, Any]:
        return super().fingerprint | {"most_fps": self.fps}

    def view(self, sample: Sample, draw: int, info: VideoMetadata) -> View:
        spec = spread(self.spec, self.fps, info)
        return padded(super(PaddedDraws, replace(self, spec=spec)).view(sample, draw, info), self.spec.frames)


@dataclass(frozen=True)
class PaddedEvaluation(EvaluationDraws):
    """The centre view of a video, of at most as many frames as it has.

    Attributes:
        fps: see :class:`PaddedDraws`.
    """

    fps: float | None = None

    @property
    def fingerprint(self) -> dict[str, Any]:
        return super().fingerprint | {"most_fps": self.fps}

    def views(self, sample: Sample, info: VideoMetadata) -> list[View]:
        views = spread(self.spec, self.fps, info).evaluation(sample.key, info, self.clips, self.crops)
        return [padded(view, self.spec.frames) for view in views]


def frames_used(frames: int, fps: float | None, duration: float) -> int:
    """Return how many frames of a video are used: ``fps`` of each second, at least one and at most ``frames``."""
    return frames if fps is None else min(frames, max(1, round(duration * fps)))


def spread(spec: ViewSpec, fps: float | None, info: VideoMetadata) -> ViewSpec:
    """Return the specification for the number of frames that are used of a video."""
    return replace(spec, frames=frames_used(spec.frames, fps, info.duration))


def padded(view: View, frames: int) -> View:
    """Return a view that shows each of its frames once, and repeats the last one up to ``frames``."""
    shown = tuple(dict.fromkeys(view.frames))
    return replace(view, frames=shown + shown[-1:] * (frames - len(shown)))
