"""The loss: cross-entropy of the answers' tokens, on what the aimed looks saw and on what the static ones saw."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastvid.data import Batch
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Coarse, Mode
from fastvid.projects.fvlm.output import Output
from fastvid.train.loss_sum import LossSum

NOW_AND_THEN = 10  # micro-batches between two looks at a coarse pass that is not trained


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
        inputs = self.inputs(batch)
        return self.of(module(inputs, self.mode, **self.passes(micro)), inputs, micro)

    def inputs(self, batch: Batch) -> Inputs:
        """Return a batch's inputs, with the labels that are learnt."""
        inputs = Inputs.of(batch)
        return inputs.all_text() if self.config.learn == "all" else inputs

    def passes(self, micro: int) -> dict[str, Any]:
        """Return what a micro-batch needs of the model beside the pass that is trained."""
        if self.mode == "coarse":
            return {}
        measured: Coarse = "measured" if micro % NOW_AND_THEN == 0 else False
        coarse = True if self.config.coarse_weight > 0 else measured
        return {"coarse": coarse, "entropy": self.config.entropy_weight_at(micro) > 0}

    def of(self, out: Output, inputs: Inputs, micro: int) -> tuple[LossSum, dict[str, LossSum]]:
        """Return the loss of the model's output, and the terms to record."""
        count = torch.tensor(float(len(out.labels)), device=out.logits.device)
        total = out.losses.sum()
        if out.entropy is not None:
            total = total + self.config.entropy_weight_at(micro) * count * self._below_floor(out, inputs)
        trained = "coarse" if self.mode == "coarse" else "fine"
        terms = _terms(trained if inputs.frames.shape[1] else "text", out, count)
        if out.coarse is not None:
            if self.config.coarse_weight > 0:
                total = total + self.config.coarse_weight * out.coarse.losses.sum()
            terms |= _terms("coarse", out.coarse, count)
        return LossSum(total, count), terms

    def _below_floor(self, out: Output, inputs: Inputs) -> torch.Tensor:
        """Return how far the attention of real looks is below the floor, in the mean; 0 without a real look."""
        assert out.entropy is not None
        real = inputs.questions[:, :, None] & inputs.frames[:, None]
        missing = (self.config.entropy_floor - out.entropy[:, real]).relu()
        return missing.sum() / max(1, missing.numel())


def freeze_unused(model: FoveatedVLM, mode: Mode, coarse_weight: float, *, reconstructs: bool = False) -> None:
    """Freeze the parameters that a stage's loss does not depend on: they would have no gradient, for which several
    processes would wait.

    Args:
        model: the model.
        mode: in which it is trained.
        coarse_weight: weight of the coarse pass beside the fine one.
        reconstructs: whether frames are reconstructed from what queries are predicted from.
    """
    connector = model.connector
    marks = model.config.marks
    if mode == "coarse":
        connector.predict.requires_grad_(False)
        if marks:
            connector.fine_mark.requires_grad_(False)
        if model.config.aim == "frames" and not reconstructs:
            connector.no_text.requires_grad_(False)
    if mode == "coarse" or model.config.first_query == "text":
        connector.first_query.requires_grad_(False)
    if mode == "stream" and not coarse_weight:
        connector.static_query.requires_grad_(False)
        if marks:
            connector.coarse_mark.requires_grad_(False)


def _terms(name: str, out: Output, count: torch.Tensor) -> dict[str, LossSum]:
    return {
        f"{name}_loss": LossSum(out.losses.detach().sum(), count),
        f"{name}_accuracy": LossSum(out.right.float().sum(), count),
    }
