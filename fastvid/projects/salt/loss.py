"""The loss of both SALT stages: what predictions are compared with, and how."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fastvid.data import Batch
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
        subset: picks what is predicted, where the latents of some tokens only are cached.
    """

    def __init__(
        self,
        config: LossConfig,
        masks: MaskSampler,
        targets: Targets,
        world: World,
        subset: TokenSubset | None = None,
    ):
        self.config, self.masks, self.targets, self.world, self.subset = config, masks, targets, world, subset
        self.distance = MaskedLatentLoss(config.kind, normalize_target=config.normalize_target)

    def __call__(self, module: nn.Module, batch: Batch, draw: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss to minimise, and its terms where it has several."""
        prepared = self.targets.prepare(batch)
        masks, values = self.draw(batch.ids, draw, prepared)
        terms: list[dict[str, torch.Tensor]] = []
        for pred, (_, masked) in zip(module(batch.clips, masks), masks, strict=True):
            terms.append(self._terms(pred, self.targets.select(prepared, masked)))
        means = {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}
        weights = {"variance": self.config.variance, "covariance": self.config.covariance}
        loss = torch.stack([weights.get(name, 1.0) * value for name, value in means.items()]).sum()
        return loss, (means if len(means) > 1 else {}) | values

    def draw(self, ids: torch.Tensor, draw: int, prepared: Any) -> tuple[list[Mask], dict[str, torch.Tensor]]:
        """Draw the masks of a step whose targets are prepared, and return them with values to record."""
        if self.subset is None:
            return self.masks(ids, draw), {}
        masks, repeated = self.subset(self.masks.complete(ids, draw), prepared.tokens, ids, draw)
        return masks, {"repeated_targets": repeated}

    def _terms(self, pred: torch.Tensor, selected: Selected) -> dict[str, torch.Tensor]:
        c = self.config
        terms: dict[str, torch.Tensor] = {c.kind: self.distance(pred, *selected)}
        penalties: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "variance": variance_penalty,
            "covariance": covariance_penalty,
        }
        penalties = {name: f for name, f in penalties.items() if getattr(c, name)}
        if penalties:
            rows = all_gather_rows(self.world, pred.flatten(0, 1).float())
            terms |= {name: f(rows) for name, f in penalties.items()}
        return terms
