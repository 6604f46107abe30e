"""Mean and standard deviation that a model's pixels are normalised with."""

import logging
import math
from pathlib import Path
from typing import Any

from fastvid.models.weight_files import find_file, read_json
from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD

log = logging.getLogger(__name__)


Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]


def pixel_statistics(source: str) -> Statistics:
    """Read the mean and standard deviation of a model's processor, for pixels in [0, 1].

    V-JEPA 2 ships a processor of videos, VideoMAE one of images. Without one, and for what it does not name, they are
    ImageNet's.

    Args:
        source: hub name or local folder.

    Raises:
        ValueError: a damaged file, or pixels scaled in a way that a mean and a standard deviation cannot say.
        OSError: a file that cannot be read.
    """
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        path = find_file(source, name)
        if path is not None:
            return _statistics(read_json(path), path)
    log.info("%s comes without a processor: its pixels are normalised with ImageNet's statistics", source)
    return IMAGENET_MEAN, IMAGENET_STD


def _statistics(fields: dict[str, Any], path: Path) -> Statistics:
    factor = fields.get("rescale_factor", 1 / 255)
    if fields.get("do_rescale", True) is not True or not _is_number(factor) or abs(255 * factor - 1) > 1e-3:
        raise ValueError(
            f"{path} scales pixels by {factor!r} (do_rescale {fields.get('do_rescale', True)!r}); only a "
            "rescale_factor of 1 / 255 is supported"
        )
    if fields.get("do_normalize", True) is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean = _three(fields.get("image_mean", IMAGENET_MEAN), "image_mean", path)
    std = _three(fields.get("image_std", IMAGENET_STD), "image_std", path)
    if min(std) <= 0:
        raise ValueError(f"{path}: image_std is {list(std)}; it must be above 0")
    return mean, std


def _three(value: Any, name: str, path: Path) -> tuple[float, float, float]:
    if _is_number(value):  # transformers takes one number for all channels
        return (value, value, value)
    if isinstance(value, list | tuple) and len(value) == 3 and all(map(_is_number, value)):
        return tuple(value)  # type: ignore[return-value]
    raise ValueError(f"{path}: {name} is {value!r:.60}; write three numbers, for red, green and blue, or leave it out")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
