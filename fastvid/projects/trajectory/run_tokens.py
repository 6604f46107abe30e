"""The tokens of a run: those of each model's features, and those of true tracks, with which they are compared."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fastvid.eval.early import early_ceiling
from fastvid.projects.trajectory.baselines import baselines
from fastvid.projects.trajectory.config import TokenConfig, TrajectoryConfig
from fastvid.projects.trajectory.footage import open_videos
from fastvid.projects.trajectory.tokens import TokenSet, load_tokens
from fastvid.projects.trajectory.track_table import TrackTable
from fastvid.projects.trajectory.videos import Split
from fastvid.projects.trajectory.workers import Model

SPLITS: tuple[Split, ...] = ("train", "val", "test")


class RunTokens:
    """The tokens of all models of a run, made or read from the cache when this is made.

    Args:
        config: configuration of the run.
        models: the models, whose features take turns.
        device: where features are computed.

    Raises:
        ValueError, OSError: see :func:`fastvid.projects.trajectory.tokens.load_tokens`.
    """

    def __init__(self, config: TrajectoryConfig, models: Sequence[Model], device: torch.device):
        self.config, self._first, self._device = config, models[0], device
        features = dict.fromkeys(model.features for model in models)
        self._sets = {(name, split): self._load(name, split) for name in features for split in SPLITS}

    def of(self, model: Model, split: Split) -> TokenSet:
        """Return the tokens of a part of the videos, with the features of a model."""
        return self._sets[model.features, split]

    def options(self, features: str) -> TokenConfig:
        """Return the options that tokens with these features are made with."""
        source = self.config.tokens.source if features in ("resnet18", "salt") else None
        return replace(self.config.tokens, features=features, source=source)  # type: ignore[arg-type]

    @functools.cached_property
    def rules(self) -> dict[str, Any]:
        """Return what rules without a model reach on the test tracks; see :func:`baselines`."""
        train, test = (self._load("pixels", split) for split in ("train", "test"))
        return baselines(train, test, *(self._known or (None, None)))

    @functools.cached_property
    def ceiling(self) -> np.ndarray:
        """Return the ceiling of early decisions, float64 [T]: of what the tracks tell, or true ones would.

        A tracker that loses an object begins a second track, and other tracks lawfully tell that it is one.
        """
        tables = [TrackTable.from_tokens(tokens) for tokens in (self.of(self._first, "test"), *(self._known or [])[1:])]
        told = self.rules["one_frame"]
        ceilings = [early_ceiling(t.seen, t.persistent, t.birth, one_frame=told) for t in tables]
        return functools.reduce(np.fmax, ceilings)

    @functools.cached_property
    def _known(self) -> list[TokenSet] | None:
        """Return the training and test videos' tokens of true tracks, or None where the objects are not known."""
        if open_videos(self.config.data).read(np.arange(1)).truth is None:
            return None
        true = replace(self.options("pixels"), tracker="truth")
        splits: tuple[Split, Split] = ("train", "test")
        return [load_tokens(self.config.data, true, split, task=self.config.task) for split in splits]

    def _load(self, features: str, split: Split) -> TokenSet:
        options = self.options(features)
        return load_tokens(self.config.data, options, split, task=self.config.task, device=self._device)
