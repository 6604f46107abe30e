"""Models: nn.Modules over the ops. No argument parsing, no training loops; ``saved`` reads and writes weights."""

import importlib

_HOMES = {
    "Augment": "augment",
    "ClassifierAbout": "classifier_about",
    "EncoderTeacher": "teachers",
    "HuggingFaceTeacher": "teachers",
    "LoraSettings": "vjepa2_approach",
    "MaskedPrediction": "salt",
    "Teacher": "teachers",
    "TrainedClassifier": "saved_classifier",
    "VJepa2Classifier": "vjepa2",
    "VideoViT": "vit",
    "VideoViTConfig": "vit",
    "apply_approach": "vjepa2_approach",
    "load": "saved_run",
    "load_classifier": "saved_classifier",
    "load_encoder": "saved",
    "load_teacher": "teachers",
    "load_vjepa2": "vjepa2_load",
    "mixup": "augment",
    "save_classifier": "saved_classifier",
    "save_encoder": "saved",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"fastvid.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fastvid.models' has no attribute {name!r}")
