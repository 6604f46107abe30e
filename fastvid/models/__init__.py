"""Models: nn.Modules over the ops. No argument parsing, no training loops; ``saved`` reads and writes weights."""

import importlib

_HOMES = {
    "EncoderTeacher": "teachers",
    "HuggingFaceTeacher": "teachers",
    "MaskedPrediction": "salt",
    "Teacher": "teachers",
    "VideoViT": "vit",
    "VideoViTConfig": "vit",
    "load_encoder": "saved",
    "load_teacher": "teachers",
    "save_encoder": "saved",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"fastvid.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fastvid.models' has no attribute {name!r}")
