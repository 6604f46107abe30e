"""Encoders that several projects share, teachers, and their weights on the disk. No arguments, no training loops."""

from typing import TYPE_CHECKING

from fastvid.lazy import lazy_names

_HOMES = {
    "EncoderTeacher": "teachers",
    "HuggingFaceTeacher": "teachers",
    "ImageTeacher": "teachers",
    "Teacher": "teachers",
    "VideoViT": "vit",
    "VideoViTConfig": "vit_config",
    "load_encoder": "encoder_checkpoint",
    "load_teacher": "teachers",
    "save_encoder": "encoder_checkpoint",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from fastvid.models.encoder_checkpoint import load_encoder as load_encoder
    from fastvid.models.encoder_checkpoint import save_encoder as save_encoder
    from fastvid.models.teachers import EncoderTeacher as EncoderTeacher
    from fastvid.models.teachers import HuggingFaceTeacher as HuggingFaceTeacher
    from fastvid.models.teachers import ImageTeacher as ImageTeacher
    from fastvid.models.teachers import Teacher as Teacher
    from fastvid.models.teachers import load_teacher as load_teacher
    from fastvid.models.vit import VideoViT as VideoViT
    from fastvid.models.vit_config import VideoViTConfig as VideoViTConfig

__getattr__ = lazy_names(__name__, _HOMES)
