"""An encoder as a folder of two files, ``encoder.json`` and ``encoder.safetensors``."""

import dataclasses
import json
from pathlib import Path

from safetensors.torch import save

from fastvid.files import write_whole
from fastvid.models.pretrained import Parts, load_tensors
from fastvid.models.vit import VideoViT
from fastvid.models.vit_config import VideoViTConfig
from fastvid.models.weight_files import find_weights, read_json

_CONFIG, _WEIGHTS = "encoder.json", "encoder.safetensors"


def save_encoder(encoder: VideoViT, folder: str | Path) -> None:
    """Write an encoder's configuration and weights; each file appears complete or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    config = {**dataclasses.asdict(encoder.config), "pretrained": False}
    write_whole(folder / _WEIGHTS, save(weights))
    write_whole(folder / _CONFIG, (json.dumps(config, indent=1) + "\n").encode())


def load_encoder(folder: str | Path) -> VideoViT:
    """Read an encoder that :func:`save_encoder` wrote.

    Raises:
        FileNotFoundError: the folder holds no encoder.
        ValueError: damaged files, or weights that do not fit the configuration.
        OSError: a file that cannot be read.
    """
    folder = Path(folder)
    if not (folder / _CONFIG).is_file() or not (folder / _WEIGHTS).is_file():
        raise FileNotFoundError(f"no encoder in {folder}: {_CONFIG} and {_WEIGHTS} are needed")
    fields = read_json(folder / _CONFIG)
    known = {field.name for field in dataclasses.fields(VideoViTConfig)}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise ValueError(f"{folder / _CONFIG} has fields this version does not know: {', '.join(unknown)}")
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    try:
        encoder = VideoViT(VideoViTConfig(**fields))
    except (TypeError, ArithmeticError) as error:  # values of another type, or zero
        raise ValueError(f"{folder / _CONFIG} is damaged: {error}") from error
    weights = find_weights(str(folder / _WEIGHTS))
    load_tensors(encoder, weights.read(), weights.source, Parts(advice=f"they do not belong to its {_CONFIG}"))
    return encoder
