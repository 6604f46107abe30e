"""The student encoder that a pretraining run saves."""

from pathlib import Path

from fastvid.models.encoder_checkpoint import load_encoder
from fastvid.models.vit import VideoViT


def load(folder: Path, *, source: str | None = None) -> VideoViT:
    """Load a student encoder, in eval mode, on the CPU.

    Args:
        folder: with ``encoder.json``.
        source: must be None: an encoder is saved whole.

    Raises:
        ValueError: damaged files, or a ``source``.
    """
    if source is not None:
        raise ValueError("an encoder is saved whole: it has no other model as its source")
    return load_encoder(folder).eval()
