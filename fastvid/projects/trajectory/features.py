"""Features of the crop of an object: its pixels, or the output of a frozen model."""

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from fastvid.models.encoder_checkpoint import load_encoder
from fastvid.models.fingerprint import weights_hash
from fastvid.models.pretrained import load_timm
from fastvid.models.vit import VideoViT

Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]

_AT_ONCE = 512  # crops in a forward pass
_RESNET_SIZE = 64  # side of a crop: 0.15 GFLOP each, where ImageNet's 224 would take 1.8


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

    def __init__(self) -> None:
        self.size, self.dim = 8, 192
        self.normalisation: Normalisation = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.facts: dict[str, Any] = {"features": "pixels"}

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        return crops.flatten(1)


class FrozenTimm:
    """A frozen image model of timm, without its classifier: the pooled output.

    Args:
        name: of the model in timm, with weights on the Hugging Face hub.
        weights: a ``.safetensors`` file or a folder with ``model.safetensors`` instead.
        size: side of a crop.
        device: where it runs.

    Raises:
        FileNotFoundError: the weights are not there, as without a network.
        ValueError: they do not fit the model.
    """

    def __init__(
        self, name: str, *, weights: str | None = None, size: int = _RESNET_SIZE, device: torch.device | str = "cpu"
    ):
        model = load_timm(name, weights=weights, num_classes=0)
        self.model: nn.Module = model.eval().requires_grad_(False).to(device)
        self.size, self.dim = size, int(model.num_features)
        self.normalisation = (tuple(model.pretrained_cfg["mean"]), tuple(model.pretrained_cfg["std"]))
        self.facts = {"features": f"timm {name}", "size": size, "weights": weights_hash(model)}

    @torch.inference_mode()
    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        return torch.cat([crops.new_zeros(0, self.dim), *(self.model(some).float() for some in crops.split(_AT_ONCE))])


class Student:
    """The student encoder of a salt run, shown each crop as a still clip: the mean of its tokens.

    Args:
        folder: the run's directory, or its folder ``student``.
        device: where it runs.

    Raises:
        FileNotFoundError: no encoder there.
        ValueError: damaged files.
    """

    def __init__(self, folder: str | Path, device: torch.device | str = "cpu"):
        place = Path(folder).expanduser()
        if (place / "student").is_dir():
            place = place / "student"
        self.encoder: VideoViT = load_encoder(place).eval().requires_grad_(False).to(device)
        self.size, self.dim = self.encoder.config.size, self.encoder.dim
        self.normalisation: Normalisation = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # the encoder takes uint8
        self.facts = {"features": "salt", "size": self.size, "weights": weights_hash(self.encoder)}

    @torch.inference_mode()
    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        # A still clip's tokens differ by their positions in time alone: those of the first moment are enough.
        _, rows, columns = self.encoder.grid
        index = torch.arange(rows * columns, device=crops.device)
        features = [crops.new_zeros(0, self.dim)]
        for some in crops.split(_AT_ONCE):
            still = (some * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
            clip = still[:, None].expand(-1, self.encoder.config.frames, -1, -1, -1)
            features.append(self.encoder(clip, index.expand(len(some), -1)).float().mean(1))
        return torch.cat(features)
