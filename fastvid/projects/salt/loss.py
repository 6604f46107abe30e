"""The loss of both SALT stages: what predictions are compared with, and how."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fastvid.data import Batch
from fastvid.nn import MaskedLatentLoss
from fastvid.ops import covariance_penalty, variance_penalty
from fastvid.projects.salt.config import LossConfig
from fastvid.projects.salt.context import context_share, dense_weights
from fastvid.projects.salt.masks import MaskSampler
from fastvid.projects.salt.model import Mask
from fastvid.projects.salt.targets import Targets
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
        draws: micro-batches of the stage, over which a loss on visible tokens warms up.
    """

    def __init__(
        self,
        config: LossConfig,
        masks: MaskSampler,
        targets: Targets,
        world: World,
        subset: TokenSubset | None = None,
        draws: int = 1,
    ):
        self.config, self.masks, self.targets, self.world, self.subset = config, masks, targets, world, subset
        self.draws = draws
        self.distance = MaskedLatentLoss(config.kind, normalize_target=config.normalize_target)

    def __call__(self, module: nn.Module, batch: Batch, draw: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss to minimise, and its terms where it has several."""
        prepared = self.targets.prepare(batch)
        masks, complete, values = self.draw(batch.ids, draw, prepared)
        share = context_share(self.config, draw, self.draws)
        terms: list[dict[str, torch.Tensor]] = []
        for pred, mask, (_, hidden) in zip(module(batch.clips, masks), masks, complete, strict=True):
            weight = dense_weights(mask, hidden, self.masks.grid, share, prepared) if self.config.context else None
            terms.append(self._terms(pred, mask, prepared, weight))
        means = {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}
        weights = {"variance": self.config.variance, "covariance": self.config.covariance}
        loss = torch.stack([weights.get(name, 1.0) * value for name, value in means.items()]).sum()
        if self.config.context:
            values = values | {"context": torch.full_like(loss.detach(), share)}
        return loss, (means if len(means) > 1 else {}) | values

    def draw(
        self, ids: torch.Tensor, draw: int, prepared: Any
    ) -> tuple[list[Mask], list[Mask], dict[str, torch.Tensor]]:
        """Draw the masks of a step whose targets are prepared.

        Returns:
            The masks with the masked tokens that are predicted, the same with all masked tokens, and values to record.
        """
        complete = self.masks.complete(ids, draw)
        if self.subset is None:
            return self.masks.predicted(complete, ids, draw), complete, {}
        masks, repeated = self.subset(complete, prepared.tokens, ids, draw)
        return masks, complete, {"repeated_targets": repeated}

    def masked_distance(self, pred: torch.Tensor, masked: torch.Tensor, prepared: Any) -> torch.Tensor:
        """Return the distance of the predictions of masked tokens from their targets, without any other term."""
        pred = pred[:, : masked.shape[1]]
        distance: torch.Tensor = self.distance(self._rows(pred), *self.targets.select(prepared, masked))
        return distance

    def _terms(
        self, pred: torch.Tensor, mask: Mask, prepared: Any, weight: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        c, (visible, masked) = self.config, mask
        if weight is None:
            distance = self.masked_distance(pred, masked, prepared)
        else:
            target, index, scale = self.targets.select(prepared, torch.cat([masked, visible], dim=1))
            each = weight.repeat_interleave(self.targets.layers, dim=1)
            # The weighted mean times the weights of a clip: then losses of micro-batches and processes average.
            distance = self.distance(self._rows(pred), target, index, scale, each) * weight.sum(1).mean()
        terms: dict[str, torch.Tensor] = {c.kind: distance}
        penalties: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "variance": variance_penalty,
            "covariance": covariance_penalty,
        }
        penalties = {name: f for name, f in penalties.items() if getattr(c, name)}
        if penalties:
            rows = all_gather_rows(self.world, pred[:, : masked.shape[1]].flatten(0, 1).float())
            terms |= {name: f(rows) for name, f in penalties.items()}
        return terms

    def _rows(self, pred: torch.Tensor) -> torch.Tensor:
        """Return predictions [B, M, layers * D] as one row for each target, [B, M * layers, D]."""
        layers = self.targets.layers
        return pred if layers == 1 else pred.unflatten(-1, (layers, -1)).flatten(1, 2)
