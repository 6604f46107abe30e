"""Health of a SALT stage, on a fixed batch of clips and masks."""

import logging
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import nn

from fastvid.data import Quarantine
from fastvid.eval.health import FeatureHealth, mean_predictor_loss
from fastvid.models.teachers import Teacher
from fastvid.models.vit import VideoViT
from fastvid.ops import gather_tokens, sample_id
from fastvid.train.salt_data import SaltData, first_batch
from fastvid.train.salt_loss import StageLoss

log = logging.getLogger(__name__)

_DRAW = 2**28  # far beyond any draw of the training itself


class HealthCheck:
    """Measures rank and spread of the encoder's tokens, and the loss against that of predicting the mean.

    Args:
        stage: named in warnings.
        data: the first ``clips`` videos of its training part are looked at.
        clips: how many.
        quarantine: where bad ones of them go.
        encoder: the trained encoder.
        teacher: the frozen teacher, or None.
        module: encoder and predictor.
        loss: of the stage.
        device: where they are.
    """

    def __init__(
        self,
        stage: str,
        data: SaltData,
        clips: int,
        quarantine: Quarantine,
        encoder: VideoViT,
        teacher: Teacher | None,
        module: nn.Module,
        loss: StageLoss,
        device: torch.device,
    ):
        self.stage, self.data, self.clips, self.quarantine = stage, data, clips, quarantine
        self.encoder, self.teacher, self.module, self.loss, self.device = encoder, teacher, module, loss, device

    @torch.no_grad()
    def __call__(self, step: int) -> dict[str, float]:
        """Values to record; anything suspicious is also logged, loudly."""
        clips, ids = self._batch
        self.module.eval()
        student = FeatureHealth.of(self.encoder(clips))
        problems = student.problems("student" if self.teacher else "encoder")
        values = {"rank": student.rank, "std": student.std, "clip_std": student.clip_std}
        if self.teacher is not None:
            values |= {"teacher_rank": self._teacher_health.rank, "teacher_std": self._teacher_health.std}
            problems += self._teacher_health.problems("teacher")
        reached, baseline = self._losses(clips, ids)
        values |= {"probe_loss": reached, "mean_predictor_loss": baseline}
        if reached >= baseline:
            problems.append(f"the loss {reached:.4f} is no better than predicting the mean ({baseline:.4f})")
        for problem in problems:
            log.warning("HEALTH at %s step %d: %s", self.stage, step, problem)
        return {f"health_{name}": value for name, value in values.items()} | {"health_problems": len(problems)}

    @cached_property
    def _batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        source = self.data.train
        rows = range(min(self.clips, len(source.samples)))
        batch = first_batch(source, rows, self.data.views, self.clips, self.quarantine)
        ids = torch.tensor([sample_id(source.samples[i].key) for i in batch.indices])
        return batch.clips.to(self.device), ids.to(self.device)

    @cached_property
    def _teacher_health(self) -> FeatureHealth:
        assert self.teacher is not None
        return FeatureHealth.of(self.teacher(self._batch[0]))

    def _losses(self, clips: torch.Tensor, ids: torch.Tensor) -> tuple[float, float]:
        """The loss on the fixed batch, and that of predicting the mean target."""
        config, masks = self.loss.config, self.loss.masks(ids, _DRAW)
        prepared = self.loss.targets.prepare(clips)
        reached, baseline = 0.0, 0.0
        for pred, (_, masked) in zip(self.module(clips, masks), masks, strict=True):
            target, index = self.loss.targets.select(prepared, masked)
            reached += float(self.loss.distance(pred, target, index))
            rows = gather_tokens(target, index).flatten(0, 1).float()
            if config.normalize_target:
                rows = F.layer_norm(rows, rows.shape[-1:])
            baseline += mean_predictor_loss(rows, config.kind)
        return reached / len(masks), baseline / len(masks)
