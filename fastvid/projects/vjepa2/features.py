"""The frozen parts of a V-JEPA 2 classifier, whose output is stored as features."""

import torch
from torch import nn

from fastvid.latents.compute import FrozenModule
from fastvid.models.fingerprint import config_hash, tensors_hash
from fastvid.projects.vjepa2.model import VJepa2Classifier

# Of a transformers configuration: what features do not depend on.
_NOT_THE_ENCODER = (
    "_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "id2label", "label2id",
    "problem_type",
)  # fmt: skip


class _FrozenPart(nn.Module):
    """The frozen part of a classifier as a module of its own."""

    def __init__(self, model: VJepa2Classifier):
        super().__init__()
        self.model = model

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.model.frozen_features(clip)


def frozen_part(model: VJepa2Classifier) -> FrozenModule:
    """Return the module that computes features: the encoder, and the pooler where that is frozen too. Its weights
    are hashed once.
    """
    pooled = not model.pooler_trains
    config = {k: v for k, v in model.hf.config.to_dict().items() if k not in _NOT_THE_ENCODER}
    config |= {"mean": model.mean, "std": model.std}
    return FrozenModule(
        _FrozenPart(model),
        kind=f"vjepa2 {config_hash(config)}",
        weights=_weights(model),
        layer="pooler" if pooled else "encoder",
        grid=(1, 1, 1) if pooled else model.grid,
        dim=model.dim,
    )


def _weights(model: VJepa2Classifier) -> str:
    parts = {"encoder": model.hf.vjepa2.encoder} | ({} if model.pooler_trains else {"pooler": model.hf.pooler})
    return tensors_hash({f"{name}.{n}": p for name, part in parts.items() for n, p in part.named_parameters()})
