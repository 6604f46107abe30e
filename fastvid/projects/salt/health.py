"""Health of a SALT stage, on a fixed batch of clips and masks."""

import logging
from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import nn

from fastvid.data import Latents
from fastvid.eval.health import FeatureHealth, mean_predictor_loss
from fastvid.models.teachers import Teacher
from fastvid.models.vit import VideoViT
from fastvid.ops import gather_tokens
from fastvid.projects.salt.loss import StageLoss
from fastvid.projects.salt.targets import HealthBatch

log = logging.getLogger(__name__)


_DRAW = 2**28  # far beyond any draw of the training itself


class HealthCheck:
    """Measures rank and spread of the encoder's tokens, and the loss against that of predicting the mean.

    Args:
        stage: named in warnings.
        batch: makes the batch: clips uint8 [B, T, H, W, 3], sample ids int64 [B] and, where they are cached, latents.
        encoder: the trained encoder.
        teacher: the frozen teacher, or None.
        module: encoder and predictor.
        loss: of the stage.
        device: where they are.
    """

    def __init__(
        self,
        stage: str,
        batch: Callable[[], HealthBatch],
        encoder: VideoViT,
        teacher: Teacher | None,
        module: nn.Module,
        loss: StageLoss,
        device: torch.device,
    ):
        self.stage, self._make_batch = stage, batch
        self.encoder, self.teacher, self.module, self.loss, self.device = encoder, teacher, module, loss, device

    @torch.no_grad()
    def __call__(self, step: int) -> dict[str, float]:
        """Return the values to record, and warn about anything suspicious."""
        clips, ids, latents = self._batch
        self.module.eval()
        student = FeatureHealth.from_tokens(self.encoder(clips))
        problems = student.problems("encoder" if self._teacher_health is None else "student")
        values = {"rank": student.rank, "std": student.std, "clip_std": student.clip_std}
        if self._teacher_health is not None:
            values |= {"teacher_rank": self._teacher_health.rank, "teacher_std": self._teacher_health.std}
            problems += self._teacher_health.problems("teacher")
        reached, baseline = self._losses(clips, ids, latents)
        values |= {"probe_loss": reached, "mean_predictor_loss": baseline}
        if reached >= baseline:
            problems.append(f"the loss {reached:.4f} is no better than predicting the mean ({baseline:.4f})")
        for problem in problems:
            log.warning("HEALTH at %s step %d: %s", self.stage, step, problem)
        return {f"health_{name}": value for name, value in values.items()} | {"health_problems": len(problems)}

    @cached_property
    def _batch(self) -> HealthBatch:
        clips, ids, latents = self._make_batch()
        latents = None if latents is None else latents.to(self.device)
        return clips.to(self.device), ids.to(self.device), latents

    @cached_property
    def _teacher_health(self) -> FeatureHealth | None:
        """Measure the teacher's latents, computed or cached; return None without a teacher."""
        clips, _, latents = self._batch
        if latents is not None:
            return FeatureHealth.from_tokens(latents.float())
        return None if self.teacher is None else FeatureHealth.from_tokens(self.teacher(clips))

    def _losses(self, clips: torch.Tensor, ids: torch.Tensor, latents: Latents | None) -> tuple[float, float]:
        """Return the loss on the fixed batch, and that of predicting the mean target."""
        config, (masks, _) = self.loss.config, self.loss.draw(ids, _DRAW, latents)
        prepared = self.loss.targets.prepare(clips, latents)
        reached, baseline = 0.0, 0.0
        for pred, (_, masked) in zip(self.module(clips, masks), masks, strict=True):
            target, index, scale = self.loss.targets.select(prepared, masked)
            reached += float(self.loss.distance(pred, target, index, scale))
            rows = gather_tokens(target, index).float()
            if scale is not None:
                rows = rows * scale.gather(1, index).float().unsqueeze(-1)
            rows = rows.flatten(0, 1)
            if config.normalize_target:
                rows = F.layer_norm(rows, rows.shape[-1:])
            baseline += mean_predictor_loss(rows, config.kind)
        return reached / len(masks), baseline / len(masks)
