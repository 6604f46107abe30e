"""Predictions of a model: for whole videos, for some of their tokens, and frame by frame."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from fastvid.eval.attention import rollout
from fastvid.projects.trajectory.batches import pad
from fastvid.projects.trajectory.model import TrajectoryModel
from fastvid.projects.trajectory.tokens import TokenSet
from fastvid.projects.trajectory.track_table import TrackTable


@dataclass(frozen=True)
class Predictions:
    """The predictions of a model.

    Attributes:
        target: float64 [V, C], logits of the videos' classes.
        verdicts: float64 [n], logits of "persistent" of the tracks; nan for tracks without a token that was shown.
        attention: float64 [N], of the read-out query; 0 for tokens that were not shown.
    """

    target: np.ndarray
    verdicts: np.ndarray
    attention: np.ndarray


@dataclass(frozen=True)
class Predictor:
    """A model and how it is run.

    Attributes:
        model: on ``device``.
        task: ``motion`` or ``noise``.
        batch: videos in a forward pass.
        device: of the model.
        cast: returns the autocast context.
    """

    model: TrajectoryModel
    task: str
    batch: int = 128
    device: torch.device | str = "cpu"
    cast: Callable[[], AbstractContextManager[object]] = nullcontext

    @torch.no_grad()
    def __call__(self, tokens: TokenSet, table: TrackTable, keep: np.ndarray | None = None) -> Predictions:
        """Predict all videos.

        Args:
            tokens: of the videos.
            table: their tracks.
            keep: bool [N], tokens that are shown; default: all.
        """
        self.model.eval()
        count = len(tokens.keys)
        target, attention = np.zeros((count, self.model.classes)), np.zeros(len(tokens.frame))
        verdicts = np.full(len(table), np.nan)
        for first in range(0, count, self.batch):
            videos = np.arange(first, min(first + self.batch, count))
            batch = pad(tokens, videos, self.task, keep=keep, device=self.device)
            with self.cast():
                out = self.model(batch)
            target[videos] = out.target.double().cpu().numpy()
            rows = batch.rows.cpu().numpy()
            attention[rows] = out.attention.double().flatten()[batch.where].cpu().numpy()
            # Every token says its track's verdict.
            said = out.verdicts.double().gather(1, batch.track).flatten()[batch.where].cpu().numpy()
            verdicts[table.row[rows]] = said
        return Predictions(target, verdicts, attention)

    def by_frame(self, tokens: TokenSet, table: TrackTable) -> tuple[np.ndarray, np.ndarray]:
        """Predict all videos after each of their frames, from what was seen until then.

        Returns:
            Logits of the classes, float64 [T, V, C], and of the tracks' verdicts, float64 [n, T], nan before birth.
        """
        found = [self(tokens, table, tokens.frame <= t) for t in range(tokens.frames)]
        return np.stack([one.target for one in found]), np.stack([one.verdicts for one in found], 1)

    @torch.no_grad()
    def rollout(self, tokens: TokenSet) -> np.ndarray:
        """Return the read-out query's attention on the inputs, through all layers, float64 [N]."""
        self.model.eval()
        found = np.zeros(len(tokens.frame))
        for first in range(0, len(tokens.keys), self.batch):
            videos = np.arange(first, min(first + self.batch, len(tokens.keys)))
            batch = pad(tokens, videos, self.task, device=self.device)
            layers: list[torch.Tensor] = []
            x = self.model.encode(batch, layers)
            readout = self.model.readout(x, batch.valid).mean(1)
            flow = rollout([layer.double().cpu().numpy() for layer in layers], readout.double().cpu().numpy())
            found[batch.rows.cpu().numpy()] = flow.reshape(-1)[batch.where.cpu().numpy()]
        return found
