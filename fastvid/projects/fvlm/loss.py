"""The loss: cross-entropy of the answers' tokens, on what the aimed looks saw and on what the static ones saw."""

from dataclasses import dataclass

import torch
from torch import nn

from fastvid.data import Batch
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.model import Output
from fastvid.projects.fvlm.model_config import Mode
from fastvid.ranges import NotNegative
from fastvid.train.loss_sum import LossSum


@dataclass(frozen=True)
class LossConfig:
    """The loss."""

    coarse_weight: NotNegative = 1.0
    """Of the coarse pass's cross-entropy. With 0 the coarse pass is not trained, and no fair comparison."""


@dataclass(frozen=True)
class TextLoss:
    """The cross-entropy of all learnt tokens, as the engine calls it.

    Attributes:
        mode: how frames are read; ``coarse`` trains the static query alone.
        config: weights.
    """

    mode: Mode
    config: LossConfig = LossConfig()

    def __call__(
        self, module: nn.Module, batch: Batch, micro: int
    ) -> tuple[LossSum, dict[str, LossSum | torch.Tensor]]:
        """Return the sum over tokens to minimise, and the terms to record."""
        both = self.mode != "coarse" and self.config.coarse_weight > 0
        out: Output = module(Inputs.of(batch), self.mode, coarse=both)
        count = torch.tensor(float(len(out.labels)), device=out.logits.device)
        total = out.losses.sum()
        terms = _terms("coarse" if self.mode == "coarse" else "fine", out, count)
        if out.coarse is not None:
            total = total + self.config.coarse_weight * out.coarse.losses.sum()
            terms |= _terms("coarse", out.coarse, count)
        return LossSum(total, count), terms


def _terms(name: str, out: Output, count: torch.Tensor) -> dict[str, LossSum | torch.Tensor]:
    return {
        f"{name}_loss": LossSum(out.losses.detach().sum(), count),
        f"{name}_accuracy": LossSum(out.right.float().sum(), count),
    }
