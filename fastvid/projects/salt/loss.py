"""The loss of both SALT stages: what predictions are compared with, and how."""

from collections.abc import Callable

import torch
from torch import nn

from fastvid.data import Batch, Latents
from fastvid.nn import MaskedLatentLoss
from fastvid.ops import covariance_penalty, variance_penalty
from fastvid.projects.salt.config import LossConfig
from fastvid.projects.salt.masks import MaskSampler
from fastvid.projects.salt.model import Mask
from fastvid.projects.salt.targets import Selected, Targets
from fastvid.projects.salt.token_subset import TokenSubset
from fastvid.train.distributed import World, all_gather_rows


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
        self._latents = latents or (lambda batch: batch.latents)
        self.config, self.masks, self.targets, self.world = config, masks, targets, world
        self.distance = MaskedLatentLoss(config.kind, normalize_target=config.normalize_target)
        self._prepare = torch.compile(targets.prepare, dynamic=False) if compile else targets.prepare

    def __call__(self, module: nn.Module, batch: Batch, draw: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss to minimise, and its terms where it has several."""
        assert batch.clips is not None
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
        """Draw the masks of a step, and return them with values to record."""
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
            rows = all_gather_rows(self.world, pred.flatten(0, 1).float())
            terms |= {name: f(rows) for name, f in penalties.items()}
        return terms
