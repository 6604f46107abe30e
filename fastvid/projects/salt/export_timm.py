"""An encoder as an image model of timm: one moment of a still clip."""

import copy
import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from fastvid.files import write_whole
from fastvid.models.vit import VideoViT
from fastvid.projects.salt.export_check import check_equal, normalized, random_clips
from fastvid.projects.salt.plain_vit import Weights
from fastvid.projects.salt.trained import TrainedEncoder


def write_timm(trained: TrainedEncoder, folder: Path) -> None:
    """Write weights and configuration of an image model, and compare what timm opens with the encoder.

    An image is a clip in which nothing moves, seen at its middle moment: weights of the patch embedding are summed over
    the tubelet's frames, and positions are those of the middle time slot. The model gives an image the tokens that the
    encoder gives that slot of the still clip where it is shown no other.

    Raises:
        ValueError: timm's model has a part that the encoder lacks.
    """
    encoder = trained.encoder
    weights, arguments = image_weights(encoder), image_arguments(encoder)
    path, size = folder / "model.safetensors", encoder.config.size
    save_file(weights, path)
    config = {
        "architecture": architecture(encoder),
        "num_classes": 0,
        "num_features": encoder.dim,
        "global_pool": "avg",
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [3, size, size], "fixed_input_size": True, "interpolation": "bilinear",
            "crop_pct": trained.views.crop, "crop_mode": "center", "mean": list(encoder.config.mean),
            "std": list(encoder.config.std), "num_classes": 0, "pool_size": None, "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }  # fmt: skip
    write_whole(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    _check_same(encoder, timm.create_model(architecture(encoder), checkpoint_path=path, num_classes=0, **arguments))


def architecture(encoder: VideoViT) -> str:
    """Return timm's name of the encoder's architecture, without the tag of weights."""
    return encoder.config.name.partition(".")[0]


def image_arguments(encoder: VideoViT) -> dict[str, Any]:
    """Return the arguments of ``timm.create_model`` beside the name, for images as large as the encoder's clips."""
    config = encoder.config
    chosen = {"embed_dim": config.width, "depth": config.depth, "num_heads": config.heads, "patch_size": config.patch}
    own = {"class_token": False, "reg_tokens": 0, "global_pool": "avg", "fc_norm": False}  # tokens are normalised
    return {"img_size": config.size, **{k: v for k, v in chosen.items() if v is not None}, **own}


def image_weights(encoder: VideoViT) -> Weights:
    """Return the weights of timm's image model, by timm's names."""
    moments, rows, columns = encoder.grid
    proj = encoder.patch_embed.proj
    middle = encoder.positions.detach().unflatten(0, (moments, rows * columns))[moments // 2]
    weights: Weights = {"patch_embed.proj.weight": proj.weight.detach().sum(2), "pos_embed": middle[None]}
    if proj.bias is not None:
        weights["patch_embed.proj.bias"] = proj.bias.detach()
    for name, part in (("patch_embed.norm", encoder.patch_norm), ("blocks", encoder.blocks), ("norm", encoder.norm)):
        weights |= {f"{name}.{key}": tensor for key, tensor in part.state_dict().items()}
    return {name: tensor.cpu().clone().contiguous() for name, tensor in weights.items()}


@torch.no_grad()
def _check_same(encoder: VideoViT, model: Any) -> None:
    """Raise ValueError unless timm's model gives an image the tokens of the still clip's middle moment, in float64."""
    exact, config = copy.deepcopy(encoder).cpu().double().eval(), encoder.config
    image = random_clips(config, 1)[:, 0]
    still = image[:, None].expand(-1, config.frames, -1, -1, -1)
    moments, rows, columns = encoder.grid
    index = torch.arange(rows * columns)[None] + moments // 2 * rows * columns
    found = model.double().eval().forward_features(normalized(image, config).permute(0, 3, 1, 2))
    check_equal(found, exact(still, index), 1e-5, f"timm's {config.name}", "it has a part that the encoder lacks")
