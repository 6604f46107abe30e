"""The loss of both SALT stages: what predictions are compared with, and how."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn

from fastvid.data import Batch
from fastvid.models.teachers import Teacher
from fastvid.nn import MaskedLatentLoss, VisiblePatchEmbed
from fastvid.ops import covariance_penalty, gather_tubelets, variance_penalty
from fastvid.train.distributed import World, gather_rows
from fastvid.train.salt_config import LossConfig
from fastvid.train.salt_masks import MaskSampler


class Targets(Protocol):
    """What a stage predicts."""

    def prepare(self, clips: torch.Tensor) -> torch.Tensor:
        """What all masks of a step share, from clips uint8 [B, T, H, W, 3]."""
        ...

    def select(self, prepared: torch.Tensor, masked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """target [B, K, D] and index int64 [B, M] into it, for tokens ``masked`` int64 [B, M]."""
        ...


class PixelTargets:
    """Normalised pixels of the masked tubelets, as the encoder's own embedding normalises them."""

    def __init__(self, embed: VisiblePatchEmbed):
        self.embed = embed

    def prepare(self, clips: torch.Tensor) -> torch.Tensor:
        return clips

    def select(self, prepared: torch.Tensor, masked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        e = self.embed
        pixels = gather_tubelets(prepared, masked, tubelet=e.tubelet, patch=e.patch, mean=e.mean, std=e.std)
        return pixels, torch.arange(masked.shape[1], device=masked.device).expand_as(masked)


class LatentTargets:
    """A frozen teacher's latents, of the whole clip."""

    def __init__(self, teacher: Teacher):
        self.teacher = teacher

    def prepare(self, clips: torch.Tensor) -> torch.Tensor:
        return self.teacher(clips)

    def select(self, prepared: torch.Tensor, masked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return prepared, masked


class StageLoss:
    """Loss of one micro-batch: drawn masks, predictions, distance to the targets, averaged over the masks of the step.

    Args:
        config: which distance and penalties.
        masks: draws the masks.
        targets: what is predicted.
        world: for penalties on statistics of the whole batch.
        compile: torch.compile the preparation of the targets for the shapes of training.
    """

    def __init__(
        self, config: LossConfig, masks: MaskSampler, targets: Targets, world: World, *, compile: bool = False
    ):
        self.config, self.masks, self.targets, self.world = config, masks, targets, world
        self.distance = MaskedLatentLoss(config.kind, normalize_target=config.normalize_target)
        self._prepare = torch.compile(targets.prepare, dynamic=False) if compile else targets.prepare

    def __call__(self, module: nn.Module, batch: Batch, draw: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss to minimise, and its terms where it has several."""
        prepared = self._prepare(batch.clips)
        masks = self.masks(batch.ids, draw)
        terms: list[dict[str, torch.Tensor]] = []
        for pred, (_, masked) in zip(module(batch.clips, masks), masks, strict=True):
            terms.append(self._terms(pred, *self.targets.select(prepared, masked)))
        means = {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}
        weights = {"variance": self.config.variance, "covariance": self.config.covariance}
        loss = torch.stack([weights.get(name, 1.0) * value for name, value in means.items()]).sum()
        return loss, means if len(means) > 1 else {}

    def _terms(self, pred: torch.Tensor, target: torch.Tensor, index: torch.Tensor) -> dict[str, torch.Tensor]:
        c = self.config
        terms: dict[str, torch.Tensor] = {c.kind: self.distance(pred, target, index)}
        penalties: dict[str, Callable] = {"variance": variance_penalty, "covariance": covariance_penalty}
        penalties = {name: f for name, f in penalties.items() if getattr(c, name)}
        if penalties:
            rows = gather_rows(self.world, pred.flatten(0, 1).float())
            terms |= {name: f(rows) for name, f in penalties.items()}
        return terms
