"""What a frozen model, or none, makes of the crop of an object."""

from typing import Any, Literal, Protocol

import torch

Features = Literal["pixels", "conv", "resnet18", "salt"]
Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]


class Extractor(Protocol):
    """A function from crops to features.

    Attributes:
        size: side of the crops it takes, in pixels.
        dim: D, width of the features.
        normalisation: mean and standard deviation of the crops' pixels.
        facts: all that features depend on, beside the crops, as JSON values.
    """

    size: int
    dim: int
    normalisation: Normalisation
    facts: dict[str, Any]

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        """Map crops float32 [N, 3, size, size] to features float32 [N, D]."""
        ...


class Pixels:
    """The crop itself, 8 x 8 pixels in [-1, 1], channel by channel."""

    size, dim = 8, 192
    normalisation: Normalisation = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    facts: dict[str, Any] = {"features": "pixels"}  # noqa: RUF012

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        return crops.flatten(1)
