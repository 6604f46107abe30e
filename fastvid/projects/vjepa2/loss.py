"""Cross-entropy of a V-JEPA 2 run, on clips or on features of the frozen parts."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from fastvid.data import Batch
from fastvid.latents.file import network_input
from fastvid.nn.augment import Augment, mixup
from fastvid.projects.vjepa2.config import AugmentConfig


class ClassifierLoss:
    """Cross-entropy with label smoothing and mixup.

    Args:
        classes: names; a class id is a position.
        config: configuration of the augmentation.
        augment: what is done with clips; features were made of augmented clips.
        seed: seed of augmentation and mixup.
        pooled: whether features come from the pooler.
    """

    def __init__(self, classes: Sequence[str], config: AugmentConfig, augment: Augment, seed: int, *, pooled: bool):
        self._ids = {name: i for i, name in enumerate(classes)}
        self._config, self._augment, self._seed, self._pooled = config, augment, seed, pooled

    def __call__(self, module: nn.Module, batch: Batch, micro: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss, and the share of clips whose own class got the highest score."""
        device = batch.ids.device
        labels = torch.tensor([self._ids[label or ""] for label in batch.labels]).to(device, non_blocking=True)
        if batch.latents is not None:
            x = network_input(batch.latents, self._pooled)
        else:
            assert batch.clips is not None
            x = self._augment(batch.clips, batch.ids, micro)
        targets = F.one_hot(labels, len(self._ids)).float()
        if self._config.mixup:
            x, targets = mixup(x, targets, self._config.mixup, self._seed, micro)
        logits = module(x).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=self._config.label_smoothing)
        return loss, {"accuracy": (logits.argmax(1) == labels).float().mean()}
