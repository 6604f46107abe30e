"""Models: nn.Modules over the ops. No argument parsing, no training loops; ``saved`` reads and writes weights."""

import importlib

_HOMES = {
    "Augment": "augment",
    "EncoderTeacher": "teachers",
    "HuggingFaceTeacher": "teachers",
    "LoraSettings": "vjepa2_approach",
    "MaskedPrediction": "salt",
    "Teacher": "teachers",
    "VJepa2Classifier": "vjepa2",
    "VideoViT": "vit",
    "VideoViTConfig": "vit",
    "apply_approach": "vjepa2_approach",
    "load_encoder": "saved",
    "load_teacher": "teachers",
    "load_vjepa2": "vjepa2_load",
    "mixup": "augment",
    "save_encoder": "saved",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"fastvid.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fastvid.models' has no attribute {name!r}")
