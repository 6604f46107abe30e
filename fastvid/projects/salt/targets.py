"""What the predictor is to predict: pixels, a teacher's latents, or cached ones."""

from typing import Any, Protocol

import torch

from fastvid.data import Batch, Latents, TrainLoader, ViewDraws
from fastvid.latents import LatentManifest
from fastvid.models.teachers import Teacher
from fastvid.nn import VisiblePatchEmbed
from fastvid.ops import gather_tubelets
from fastvid.train.engine import Loader

HealthBatch = tuple[torch.Tensor, torch.Tensor, Latents | None]


# Targets of a mask: target [B, K, D], index int64 [B, M] into it, and scale float16 [B, K] where the target is int8.
Selected = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


class Targets(Protocol):
    """What a stage predicts."""

    def prepare(self, clips: torch.Tensor, latents: Latents | None) -> Any:
        """Prepare what all masks of a step share, from clips uint8 [B, T, H, W, 3] and their latents, where they are
        cached.
        """
        ...

    def select(self, prepared: Any, masked: torch.Tensor) -> Selected:
        """Return the targets of the tokens ``masked`` int64 [B, M]."""
        ...


class PixelTargets:
    """Normalised pixels of the masked tubelets, as the encoder's own embedding normalises them."""

    def __init__(self, embed: VisiblePatchEmbed):
        self.embed = embed

    def prepare(self, clips: torch.Tensor, latents: Latents | None) -> torch.Tensor:
        return clips

    def select(self, prepared: torch.Tensor, masked: torch.Tensor) -> Selected:
        e = self.embed
        pixels = gather_tubelets(prepared, masked, tubelet=e.tubelet, patch=e.patch, mean=e.mean, std=e.std)
        return pixels, torch.arange(masked.shape[1], device=masked.device).expand_as(masked), None


class LatentTargets:
    """A frozen teacher's latents, of the whole clip."""

    def __init__(self, teacher: Teacher):
        self.teacher = teacher

    def prepare(self, clips: torch.Tensor, latents: Latents | None) -> torch.Tensor:
        return self.teacher(clips)

    def select(self, prepared: torch.Tensor, masked: torch.Tensor) -> Selected:
        return prepared, masked, None


class CachedTargets:
    """Latents from a cache, as they are stored: int8 ones are multiplied out where the loss reads them."""

    def prepare(self, clips: torch.Tensor, latents: Latents | None) -> Latents:
        assert latents is not None, "the batch comes without latents"
        return latents

    def select(self, prepared: Latents, masked: torch.Tensor) -> Selected:
        if prepared.tokens is None:
            return prepared.values, masked, prepared.scale
        return prepared.values, torch.searchsorted(prepared.tokens, masked), prepared.scale


class KnownLatents(Protocol):
    """Where a student's targets come from, when the teacher does not run at every step."""

    manifest: LatentManifest

    @property
    def draws(self) -> ViewDraws:
        """Return the views that are trained on."""
        ...

    @property
    def echo(self) -> int:
        """Return the times each window of shards is shown before the next one."""
        ...

    def batches(self, loader: TrainLoader) -> Loader:
        """Return the loader's batches, with the latents that are known."""
        ...

    def health_batch(self, clips: int) -> HealthBatch:
        """Return some training clips, their sample ids and latents."""
        ...

    def of(self, batch: Batch) -> Latents:
        """Return the latents of a batch."""
        ...
