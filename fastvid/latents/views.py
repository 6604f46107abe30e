"""Which views of a video a frozen model sees: augmented ones for training, fixed ones for evaluation."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from fastvid.data import Sample
from fastvid.data.loader.flips import training_view
from fastvid.latents.manifest import view_facts
from fastvid.nn.augment import Augment
from fastvid.random import sample_id
from fastvid.video import VideoMetadata, View, ViewSpec


@dataclass(frozen=True)
class TrainingDraws:
    """Augmented views.

    Attributes:
        spec: how views are drawn.
        seed: with which seed.
        count: V of each clip.
        unflipped: classes that are never mirrored.
        augment: what else is done with pixels.
    """

    spec: ViewSpec
    seed: int
    count: int
    unflipped: frozenset[str]
    augment: Augment

    def mark(self, sample: Sample) -> str:
        return "never mirrored" if sample.label in self.unflipped else ""

    def views(self, sample: Sample, info: VideoMetadata) -> list[View]:
        return [training_view(self.spec, sample, self.seed, draw, info, self.unflipped) for draw in range(self.count)]

    @property
    def facts(self) -> dict[str, Any]:
        """Return all that pixels depend on beside the videos, as JSON values."""
        return view_facts(self.spec) | {"unflipped": sorted(self.unflipped), "augment": asdict(self.augment)}

    def change(self, pixels: np.ndarray, sample: Sample, draw: int) -> np.ndarray:
        if self.augment.does_nothing:
            return pixels
        ids = torch.tensor([sample_id(sample.key)])
        return self.augment(torch.from_numpy(np.ascontiguousarray(pixels))[None], ids, draw)[0].numpy()


@dataclass(frozen=True)
class EvaluationDraws:
    """The deterministic views that accuracy is measured on.

    Attributes:
        spec: how frames are sampled.
        clips: of each video.
        crops: of each clip.
    """

    spec: ViewSpec
    clips: int
    crops: int

    @property
    def count(self) -> int:
        return self.clips * self.crops

    @property
    def facts(self) -> dict[str, Any]:
        """Return all that pixels depend on beside the videos, as JSON values."""
        return view_facts(self.spec) | {"evaluation": [self.clips, self.crops]}

    def mark(self, sample: Sample) -> str:
        return ""

    def views(self, sample: Sample, info: VideoMetadata) -> list[View]:
        return self.spec.evaluation(sample.key, info, self.clips, self.crops)

    def change(self, pixels: np.ndarray, sample: Sample, draw: int) -> np.ndarray:
        return pixels
