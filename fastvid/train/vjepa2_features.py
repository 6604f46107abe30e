"""Features of a V-JEPA 2 run: which views of which videos the frozen parts see."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from fastvid.cache.features import FeatureSet, FrozenModule
from fastvid.data import Sample, Source
from fastvid.data.latent_manifest import view_facts
from fastvid.data.mirroring import training_view
from fastvid.models.augment import Augment
from fastvid.models.identity import config_hash, tensors_hash
from fastvid.models.vjepa2 import VJepa2Classifier
from fastvid.random import sample_id
from fastvid.video import VideoInfo, View, ViewSpec

# Of a transformers configuration: what features do not depend on.
_NOT_THE_ENCODER = (
    "_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "id2label", "label2id",
    "problem_type",
)  # fmt: skip


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

    def views(self, sample: Sample, info: VideoInfo) -> list[View]:
        return [training_view(self.spec, sample, self.seed, draw, info, self.unflipped) for draw in range(self.count)]

    @property
    def facts(self) -> dict[str, Any]:
        """All that pixels depend on beside the videos, as JSON values."""
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
        """All that pixels depend on beside the videos, as JSON values."""
        return view_facts(self.spec) | {"evaluation": [self.clips, self.crops]}

    def mark(self, sample: Sample) -> str:
        return ""

    def views(self, sample: Sample, info: VideoInfo) -> list[View]:
        return self.spec.evaluation(sample.key, info, self.clips, self.crops)

    def change(self, pixels: np.ndarray, sample: Sample, draw: int) -> np.ndarray:
        return pixels


class _FrozenPart(nn.Module):
    """The frozen part of a classifier as a module of its own."""

    def __init__(self, model: VJepa2Classifier):
        super().__init__()
        self.model = model

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.model.frozen_features(clip)


def frozen_part(model: VJepa2Classifier) -> FrozenModule:
    """What makes features: the encoder, and the pooler where that is frozen too. Hashes their weights, once."""
    pooled = not model.pooler_trains
    config = {k: v for k, v in model.hf.config.to_dict().items() if k not in _NOT_THE_ENCODER}
    config |= {"mean": model.mean, "std": model.std}
    return FrozenModule(
        _FrozenPart(model),
        kind=f"vjepa2 {config_hash(config)}",
        weights=_weights(model),
        layer="pooler" if pooled else "encoder",
        grid=(1, 1, 1) if pooled else model.grid,
        dim=model.dim,
    )


def _weights(model: VJepa2Classifier) -> str:
    parts = {"encoder": model.hf.vjepa2.encoder} | ({} if model.pooler_trains else {"pooler": model.hf.pooler})
    return tensors_hash({f"{name}.{n}": p for name, part in parts.items() for n, p in part.named_parameters()})


def feature_set(name: str, source: Source, draws: TrainingDraws | EvaluationDraws) -> FeatureSet:
    """What is to be computed for some videos."""
    seed = draws.seed if isinstance(draws, TrainingDraws) else 0
    return FeatureSet(name, source, draws, draws.facts, seed)
