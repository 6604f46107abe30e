"""What a model's pixels are normalised with."""

import json
import logging
from pathlib import Path

from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD

log = logging.getLogger(__name__)


def pixel_statistics(source: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """The mean and standard deviation of a model's processor; V-JEPA 2 ships one of videos, VideoMAE one of images."""
    from transformers.utils import cached_file

    fields: dict = {}
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        path = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            fields = json.loads(Path(path).read_text())
            break
    else:
        log.info("%s comes without a processor: its pixels are normalised with ImageNet's statistics", source)
    return tuple(fields.get("image_mean", IMAGENET_MEAN)), tuple(fields.get("image_std", IMAGENET_STD))
