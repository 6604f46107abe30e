"""The loss of text: cross-entropy of the answers' tokens after the fine pass, and after the coarse one."""

from dataclasses import dataclass

import torch
from torch import nn

from fastvid.data import Batch
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Mode
from fastvid.train.loss_sum import LossSum

_NOW_AND_THEN = 10  # micro-batches between two looks at a coarse pass that is not trained


@dataclass(frozen=True)
class TextLoss:
    """The loss of one stage, as the engine calls it: a sum over tokens, so that every token weighs the same.

    Attributes:
        mode: how frames are read; ``coarse`` trains the coarse pass alone.
        coarse_weight: weight of the coarse pass beside the fine one; with 0 it is recorded now and then.
    """

    mode: Mode
    coarse_weight: float = 1.0

    def __call__(self, module: nn.Module, batch: Batch, micro: int) -> tuple[LossSum, dict[str, LossSum]]:
        """Return the loss and the terms to record."""
        inputs = Inputs.of(batch)
        both = self.mode != "coarse" and self.coarse_weight > 0
        output = module(inputs, self.mode, coarse=both)
        count = torch.tensor(len(output.labels), device=output.logits.device)
        total = output.losses.sum()
        if self.mode == "coarse":
            return LossSum(total, count), {"coarse_loss": LossSum(total.detach(), count)}
        terms = {"fine_loss": LossSum(total.detach(), count)}
        if both:
            coarse = output.coarse.losses.sum()
            total = total + self.coarse_weight * coarse
            terms["coarse_loss"] = LossSum(coarse.detach(), count)
        elif micro % _NOW_AND_THEN == 0:
            with torch.no_grad():
                coarse = module(inputs, "coarse").losses.sum()
            terms["coarse_loss"] = LossSum(coarse, count)
        return LossSum(total, count), terms


def freeze_unused(model: FoveatedVLM, mode: Mode, coarse_weight: float) -> None:
    """Freeze the parameters that a stage's loss does not depend on: they have no gradient, and several processes would
    wait for it."""
    connector = model.connector
    fine = mode != "coarse"
    if not fine:
        connector.predict.requires_grad_(False)
    if not fine or model.config.first_query == "text":
        connector.first_query.requires_grad_(False)
    if mode == "stream" and not coarse_weight:
        connector.static_query.requires_grad_(False)
