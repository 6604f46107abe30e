"""An encoder as a folder of two files, ``encoder.json`` and ``encoder.safetensors``."""

import dataclasses
import json
from pathlib import Path

from safetensors.torch import load_file, save

from fastvid.files import write_whole
from fastvid.models.vit import VideoViT, VideoViTConfig

_CONFIG, _WEIGHTS = "encoder.json", "encoder.safetensors"


def save_encoder(encoder: VideoViT, folder: str | Path) -> None:
    """Writes an encoder's configuration and weights; each file appears complete or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    config = {**dataclasses.asdict(encoder.config), "pretrained": False}
    write_whole(folder / _WEIGHTS, save(weights))
    write_whole(folder / _CONFIG, (json.dumps(config, indent=1) + "\n").encode())


def load_encoder(folder: str | Path) -> VideoViT:
    """Reads an encoder that :func:`save_encoder` wrote.

    Raises:
        FileNotFoundError: the folder holds no encoder.
        ValueError: the weights do not fit the configuration.
    """
    folder = Path(folder)
    if not (folder / _CONFIG).is_file() or not (folder / _WEIGHTS).is_file():
        raise FileNotFoundError(f"no encoder in {folder}: {_CONFIG} and {_WEIGHTS} are needed")
    fields = json.loads((folder / _CONFIG).read_text())
    known = {field.name for field in dataclasses.fields(VideoViTConfig)}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise ValueError(f"{folder / _CONFIG} has fields this version does not know: {', '.join(unknown)}")
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    encoder = VideoViT(VideoViTConfig(**fields))
    try:
        encoder.load_state_dict(load_file(folder / _WEIGHTS))
    except RuntimeError as error:
        raise ValueError(f"the weights in {folder} do not fit its {_CONFIG}: {error}") from error
    return encoder
