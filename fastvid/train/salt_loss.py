"""The loss of both SALT stages: what predictions are compared with, and how."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from fastvid.data import Batch, LatentBatch, Latents
from fastvid.models.salt import Mask
from fastvid.models.teachers import Teacher
from fastvid.nn import MaskedLatentLoss, VisiblePatchEmbed
from fastvid.ops import covariance_penalty, gather_tubelets, variance_penalty
from fastvid.train.distributed import World, gather_rows
from fastvid.train.salt_config import LossConfig
from fastvid.train.salt_masks import MaskSampler
from fastvid.train.salt_subset import TokenSubset

# Targets of a mask: target [B, K, D], index int64 [B, M] into it, and scale float16 [B, K] where the target is int8.
Selected = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


class Targets(Protocol):
    """What a stage predicts."""

    def prepare(self, clips: torch.Tensor, latents: Latents | None) -> Any:
        """What all masks of a step share, from clips uint8 [B, T, H, W, 3] and their latents, where they are cached."""
        ...

    def select(self, prepared: Any, masked: torch.Tensor) -> Selected:
        """Targets of the tokens ``masked`` int64 [B, M]."""
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


class StageLoss:
    """Loss of one micro-batch: drawn masks, predictions, distance to the targets, averaged over the masks of the step.

    Args:
        config: which distance and penalties.
        masks: draws the masks.
        targets: what is predicted.
        world: for penalties on statistics of the whole batch.
        compile: torch.compile the preparation of the targets for the shapes of training.
        subset: picks what is predicted, where the latents of some tokens only are cached.
        latents: those of a batch; default: those that the batch comes with.
    """

    def __init__(
        self,
        config: LossConfig,
        masks: MaskSampler,
        targets: Targets,
        world: World,
        *,
        compile: bool = False,
        subset: TokenSubset | None = None,
        latents: Callable[[Batch], Latents | None] | None = None,
    ):
        self.subset = subset
        self._latents = latents or _own_latents
        self.config, self.masks, self.targets, self.world = config, masks, targets, world
        self.distance = MaskedLatentLoss(config.kind, normalize_target=config.normalize_target)
        self._prepare = torch.compile(targets.prepare, dynamic=False) if compile else targets.prepare

    def __call__(self, module: nn.Module, batch: Batch, draw: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss to minimise, and its terms where it has several."""
        latents = self._latents(batch)
        prepared = self._prepare(batch.clips, latents)
        masks, facts = self.draw(batch.ids, draw, latents)
        terms: list[dict[str, torch.Tensor]] = []
        for pred, (_, masked) in zip(module(batch.clips, masks), masks, strict=True):
            terms.append(self._terms(pred, self.targets.select(prepared, masked)))
        means = {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}
        weights = {"variance": self.config.variance, "covariance": self.config.covariance}
        loss = torch.stack([weights.get(name, 1.0) * value for name, value in means.items()]).sum()
        return loss, (means if len(means) > 1 else {}) | facts

    def draw(self, ids: torch.Tensor, draw: int, latents: Latents | None) -> tuple[list[Mask], dict[str, torch.Tensor]]:
        """The masks of a step, and facts about them to record."""
        if self.subset is None or latents is None or latents.tokens is None:
            return self.masks(ids, draw), {}
        masks, repeated = self.subset(self.masks.complete(ids, draw), latents.tokens, ids, draw)
        return masks, {"repeated_targets": repeated}

    def _terms(self, pred: torch.Tensor, selected: Selected) -> dict[str, torch.Tensor]:
        c = self.config
        terms: dict[str, torch.Tensor] = {c.kind: self.distance(pred, *selected)}
        penalties: dict[str, Callable] = {"variance": variance_penalty, "covariance": covariance_penalty}
        penalties = {name: f for name, f in penalties.items() if getattr(c, name)}
        if penalties:
            rows = gather_rows(self.world, pred.flatten(0, 1).float())
            terms |= {name: f(rows) for name, f in penalties.items()}
        return terms


def _own_latents(batch: Batch) -> Latents | None:
    return batch.latents if isinstance(batch, LatentBatch) else None
