"""Health of a SALT stage, on a fixed batch of clips and masks."""

import logging
from functools import cached_property

import torch
import torch.nn.functional as F

from fastvid.data import Latents, Quarantine
from fastvid.eval.health import FeatureHealth, mean_predictor_loss
from fastvid.ops import gather_tokens
from fastvid.projects.salt.data import SaltData
from fastvid.projects.salt.loss import StageLoss
from fastvid.projects.salt.model import MaskedPrediction
from fastvid.projects.salt.targets import Examples

log = logging.getLogger(__name__)


_DRAW = 2**28  # far beyond any draw of the training itself


class HealthCheck:
    """Measures rank and spread of the encoder's tokens, and the loss against that of predicting the mean.

    Args:
        stage: named in warnings.
        module: encoder and predictor, on the device.
        loss: of the stage.
        data: whose first training clips are taken.
        clips: how many.
        quarantine: where clips that do not decode go.
        device: where the module is.
    """

    def __init__(
        self,
        stage: str,
        module: MaskedPrediction,
        loss: StageLoss,
        data: SaltData,
        clips: int,
        quarantine: Quarantine,
        device: torch.device,
    ):
        self.stage, self.module, self.loss, self.device = stage, module, loss, device
        self._data, self._clips, self._quarantine = data, clips, quarantine

    @torch.no_grad()
    def __call__(self, step: int) -> dict[str, float]:
        """Return the values to record, and warn about anything suspicious."""
        examples = self._examples.to(self.device)
        self.module.eval()
        student = FeatureHealth.from_tokens(self.module.encoder(examples.clips))
        problems = student.problems("encoder" if self._teacher is None else "student")
        values = {"rank": student.rank, "std": student.std, "clip_std": student.clip_std}
        if self._teacher is not None:
            values |= {"teacher_rank": self._teacher.rank, "teacher_std": self._teacher.std}
            problems += self._teacher.problems("teacher")
        reached, baseline = self._losses(examples)
        values |= {"probe_loss": reached, "mean_predictor_loss": baseline}
        if reached >= baseline:
            problems.append(f"the loss {reached:.4f} is no better than predicting the mean ({baseline:.4f})")
        for problem in problems:
            log.warning("HEALTH at %s step %d: %s", self.stage, step, problem)
        return {f"health_{name}": value for name, value in values.items()} | {"health_problems": len(problems)}

    @cached_property
    def _examples(self) -> Examples:
        """Load the examples at the first check. Between the checks they take no memory of a GPU."""
        return self.loss.targets.examples(self._data, self._clips, self._quarantine).to(torch.device("cpu"))

    @cached_property
    def _teacher(self) -> FeatureHealth | None:
        """Measure the teacher's latents; return None where pixels are predicted."""
        targets = self._examples.targets
        return FeatureHealth.from_tokens(targets.to(self.device).float()) if isinstance(targets, Latents) else None

    def _losses(self, examples: Examples) -> tuple[float, float]:
        """Return the loss on the examples, and that of predicting the mean target."""
        config, layers = self.loss.config, self.loss.targets.layers
        masks, *_ = self.loss.draw(examples.ids, _DRAW, examples.targets)
        reached, baseline = 0.0, 0.0
        for pred, (_, masked) in zip(self.module(examples.clips, masks), masks, strict=True):
            reached += float(self.loss.masked_distance(pred, masked, examples.targets))
            target, index, scale = self.loss.targets.select(examples.targets, masked)
            rows = gather_tokens(target, index).float()
            if scale is not None:
                rows = rows * scale.gather(1, index).float().unsqueeze(-1)
            if config.normalize_target:
                rows = F.layer_norm(rows, rows.shape[-1:])
            for layer in rows.unflatten(1, (-1, layers)).unbind(2):
                baseline += mean_predictor_loss(layer.flatten(0, 1), config.kind) / layers
        return reached / len(masks), baseline / len(masks)
