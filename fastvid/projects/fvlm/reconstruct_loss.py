"""The loss of a model that reconstructs frames: squared errors beside the cross-entropy of answers."""

from dataclasses import dataclass

from torch import nn

from fastvid.data import Batch
from fastvid.projects.fvlm.loss import TextLoss
from fastvid.projects.fvlm.reconstruct import latents_of
from fastvid.projects.fvlm.reconstruct_config import ReconstructConfig
from fastvid.train.loss_sum import LossSum


@dataclass(frozen=True)
class ReconstructLoss:
    """The cross-entropy of the answers and the weighted squared errors of the frames' latents, as the engine calls it.

    Where answers are learnt, it is a sum over their tokens, and each of them brings the mean error of its micro-batch
    with it: with one micro-batch the update minimises the mean cross-entropy plus the mean error. Where none is learnt,
    it is a sum over frames.

    Attributes:
        text: loss of the answers.
        config: weights of the reconstruction.
    """

    text: TextLoss
    config: ReconstructConfig

    def __call__(self, module: nn.Module, batch: Batch, micro: int) -> tuple[LossSum, dict[str, LossSum]]:
        """Return the sum to minimise, and the terms to record."""
        config, inputs = self.config, self.text.inputs(batch)
        inputs = inputs.told() if config.told else inputs
        passes = self.text.passes(micro)
        if config.coarse_weight > 0 and self.text.mode != "coarse":
            passes["coarse"] = True
        out, rebuilt = module(inputs, self.text.mode, latents_of(batch, config), **passes)
        loss, terms = self.text.of(out, inputs, micro)
        errors = {} if rebuilt is None else rebuilt.sums()
        weights = {"fine": config.weight, "coarse": config.coarse_weight}
        if self.text.mode == "coarse":  # the only pass, and trained as the one is that it is compared with
            weights["fine"] = config.weight or config.coarse_weight
        weighted = [(weights[name], error) for name, error in errors.items() if weights[name] > 0]
        if self.text.mode == "coarse":
            errors = {"coarse": errors["fine"]} if errors else {}
        if config.told:
            count = weighted[0][1].count if weighted else loss.count
            loss, terms = LossSum(loss.total + sum(weight * error.total for weight, error in weighted), count), {}
        else:
            error = sum(weight * error.total / error.count.clamp(min=1) for weight, error in weighted)
            loss = LossSum(loss.total + loss.count * error, loss.count)
        found = {f"{name}_reconstruction": LossSum(error.total.detach(), error.count) for name, error in errors.items()}
        return loss, terms | found
