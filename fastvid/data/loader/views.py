"""The views of a sample that are loaded: random ones for training, fixed ones for evaluation."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from fastvid.data.source import Sample
from fastvid.video import VideoMetadata, View, ViewSpec

EVERY_EPOCH = 2**32  # views of a video that differ: as many as there can be epochs


class Draws(Protocol):
    """The V views of a sample that are decoded, and what is done with their pixels."""

    @property
    def count(self) -> int:
        """Return V."""
        ...

    @property
    def seed(self) -> int:
        """Return the seed of the views; 0 where nothing is random."""
        ...

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return all that the pixels depend on beside the videos and the seed, as JSON values."""
        ...

    def cache_key(self, sample: Sample) -> str:
        """Return what a sample's views depend on beside its key and video; an empty string for nothing."""
        ...

    def views(self, sample: Sample, info: VideoMetadata) -> list[View]:
        """Return the views of a sample."""
        ...

    def transform(self, pixels: np.ndarray, sample: Sample, draw: int) -> np.ndarray:
        """Augment the uint8 [T, H, W, 3] pixels of a view."""
        ...


@dataclass(frozen=True)
class ViewDraws:
    """Random views: draw d of a sample is a pure function of (key, seed, d).

    Attributes:
        spec: how views are drawn.
        seed: seed of the views.
        count: V, the number of different views of each video, which repeat: epoch e shows draw ``e % V``. By default
            each epoch has a new one.
        no_flip: labels whose clips are never mirrored, see :func:`fastvid.data.mirror_changes`.
    """

    spec: ViewSpec
    seed: int
    count: int = EVERY_EPOCH
    no_flip: frozenset[str] = frozenset()

    def __post_init__(self):
        for name, value, least in (("count", self.count, 1), ("seed", self.seed, 0)):
            if value < least:
                raise ValueError(f"ViewDraws: {name} must be at least {least}; got {value}")

    @property
    def fingerprint(self) -> dict[str, Any]:
        return self.spec.fingerprint | ({"unflipped": sorted(self.no_flip)} if self.no_flip else {})

    def cache_key(self, sample: Sample) -> str:
        return "never mirrored" if sample.label in self.no_flip else ""

    def view(self, sample: Sample, draw: int, info: VideoMetadata) -> View:
        """Return draw number ``draw`` of a sample, or what repeats it.

        For labels in ``no_flip``, frames and box are those drawn with flips allowed, so that exempting one class
        changes nothing else. The view's hash is that of the returned view.
        """
        view = self.spec.draw(sample.key, self.seed, draw % self.count, info)
        return replace(view, flip=False) if sample.label in self.no_flip else view

    def with_frames(self, frames: int) -> "ViewDraws":
        """Return the same views with another number of frames."""
        return self if frames == self.spec.frames else replace(self, spec=replace(self.spec, frames=frames))

    def views(self, sample: Sample, info: VideoMetadata) -> list[View]:
        return [self.view(sample, draw, info) for draw in range(self.count)]

    def transform(self, pixels: np.ndarray, sample: Sample, draw: int) -> np.ndarray:
        return pixels


@dataclass(frozen=True)
class EvaluationDraws:
    """The deterministic views that accuracy is measured on; by default the centre view alone.

    Attributes:
        spec: how frames are sampled.
        clips: moments of each video.
        crops: squares of each moment, 1 or 3.
    """

    spec: ViewSpec
    clips: int = 1
    crops: int = 1

    @property
    def seed(self) -> int:
        return 0  # nothing is random

    @property
    def count(self) -> int:
        return self.clips * self.crops

    @property
    def fingerprint(self) -> dict[str, Any]:
        return self.spec.fingerprint | {"evaluation": [self.clips, self.crops]}

    def cache_key(self, sample: Sample) -> str:
        return ""

    def views(self, sample: Sample, info: VideoMetadata) -> list[View]:
        return self.spec.evaluation(sample.key, info, self.clips, self.crops)

    def transform(self, pixels: np.ndarray, sample: Sample, draw: int) -> np.ndarray:
        return pixels
