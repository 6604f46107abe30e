"""Models: nn.Modules over the ops. No argument parsing, no training loops; ``saved`` reads and writes weights."""

import importlib
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from fastvid.models.augment import Augment as Augment
    from fastvid.models.augment import mixup as mixup
    from fastvid.models.classifier_about import ClassifierAbout as ClassifierAbout
    from fastvid.models.salt import MaskedPrediction as MaskedPrediction
    from fastvid.models.saved import load_encoder as load_encoder
    from fastvid.models.saved import save_encoder as save_encoder
    from fastvid.models.saved_classifier import TrainedClassifier as TrainedClassifier
    from fastvid.models.saved_classifier import load_classifier as load_classifier
    from fastvid.models.saved_classifier import save_classifier as save_classifier
    from fastvid.models.saved_run import load as load
    from fastvid.models.teachers import EncoderTeacher as EncoderTeacher
    from fastvid.models.teachers import HuggingFaceTeacher as HuggingFaceTeacher
    from fastvid.models.teachers import Teacher as Teacher
    from fastvid.models.teachers import load_teacher as load_teacher
    from fastvid.models.vit import VideoViT as VideoViT
    from fastvid.models.vit import VideoViTConfig as VideoViTConfig
    from fastvid.models.vjepa2 import VJepa2Classifier as VJepa2Classifier
    from fastvid.models.vjepa2_approach import LoraSettings as LoraSettings
    from fastvid.models.vjepa2_approach import apply_approach as apply_approach
    from fastvid.models.vjepa2_load import load_vjepa2 as load_vjepa2


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"fastvid.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fastvid.models' has no attribute {name!r}")
