"""The part of a transformers processor's file that says how frames become a model's pixels."""

from collections.abc import Sequence
from typing import Any

from fastvid.video import ViewSpec


def pixel_fields(views: ViewSpec, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Return the fields by which a processor cuts out the centred square that the evaluation saw, and normalises it.

    Args:
        views: clips of the evaluation.
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel standard deviation of pixels in [0, 1].
    """
    return {
        "do_resize": True,
        "size": {"shortest_edge": round(views.size / views.crop)},
        "resample": 2,  # bilinear
        "do_center_crop": True,
        "crop_size": {"height": views.size, "width": views.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }
