"""The loss: cross-entropy of the answers' tokens, on what the aimed looks saw and on what the static ones saw."""

from dataclasses import dataclass

import torch
from torch import nn

from fastvid.data import Batch
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.model import FoveatedVLM, Output
from fastvid.projects.fvlm.model_config import Mode
from fastvid.train.loss_sum import LossSum

_NOW_AND_THEN = 10  # micro-batches between two looks at a coarse pass that is not trained


@dataclass(frozen=True)
class TextLoss:
    """The cross-entropy of all learnt tokens, as the engine calls it: a sum, so that every token weighs the same.

    Attributes:
        mode: how frames are read; ``coarse`` trains the static query alone.
        config: weights.
    """

    mode: Mode
    config: LossConfig

    def __call__(self, module: nn.Module, batch: Batch, micro: int) -> tuple[LossSum, dict[str, LossSum]]:
        """Return the sum over tokens to minimise, and the terms to record."""
        inputs, weight = Inputs.of(batch), self.config.coarse_weight
        soft = 0.0 if self.mode == "coarse" else self.config.entropy_weight_at(micro)
        out: Output = module(inputs, self.mode, coarse=self.mode != "coarse" and weight > 0, entropy=soft > 0)
        count = torch.tensor(float(len(out.labels)), device=out.logits.device)
        total = out.losses.sum()
        if soft:
            total = total + soft * count * self._below_floor(out, inputs)
        terms = _terms("coarse" if self.mode == "coarse" else "fine", out, count)
        if out.coarse is not None:
            total = total + weight * out.coarse.losses.sum()
            terms |= _terms("coarse", out.coarse, count)
        elif self.mode != "coarse" and micro % _NOW_AND_THEN == 0:
            with torch.no_grad():
                terms |= _terms("coarse", module(inputs, "coarse"), count)
        return LossSum(total, count), terms

    def _below_floor(self, out: Output, inputs: Inputs) -> torch.Tensor:
        """Return how far the attention of real looks is below the floor, in the mean; 0 without a real look."""
        assert out.entropy is not None
        real = inputs.questions[:, :, None] & inputs.frames[:, None]
        missing = (self.config.entropy_floor - out.entropy[:, real]).relu()
        return missing.sum() / max(1, missing.numel())


def freeze_unused(model: FoveatedVLM, mode: Mode, coarse_weight: float) -> None:
    """Freeze the parameters that a stage's loss does not depend on: they would have no gradient, for which several
    processes would wait."""
    connector = model.connector
    if mode == "coarse":
        connector.predict.requires_grad_(False)
    if mode == "coarse" or model.config.first_query == "text":
        connector.first_query.requires_grad_(False)
    if mode == "stream" and not coarse_weight:
        connector.static_query.requires_grad_(False)


def _terms(name: str, out: Output, count: torch.Tensor) -> dict[str, LossSum]:
    return {
        f"{name}_loss": LossSum(out.losses.detach().sum(), count),
        f"{name}_accuracy": LossSum(out.right.float().sum(), count),
    }
