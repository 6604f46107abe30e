"""Fingerprint of a teacher: hashes of its configuration and weights, the same wherever it is read from."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from fastvid.models.teachers import Teacher

# Of a transformers configuration: where it came from and what wrote it.
_INCIDENTAL = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")


def teacher_fingerprint(teacher: "Teacher") -> dict[str, str]:
    """Return ``teacher``, its kind and the sha256 of its configuration, and ``weights``, the sha256 of its weights.

    Pixel statistics belong to the configuration. The names are those of
    :class:`fastvid.latents.manifest.LatentManifest`.
    """
    from fastvid.models.teachers import DeepTeacher, EncoderTeacher, HuggingFaceTeacher, ImageTeacher  # and timm

    if isinstance(teacher, DeepTeacher):
        return teacher_fingerprint(teacher.teacher)  # which of its blocks teach is the ``layer`` of a manifest
    if isinstance(teacher, EncoderTeacher):
        # Where weights started from does not matter once they are there; nor does what only training uses.
        config = dataclasses.asdict(teacher.encoder.config)
        kind = config["name"]
        for name in ("pretrained", "init", "drop_path"):
            del config[name]
    elif isinstance(teacher, HuggingFaceTeacher | ImageTeacher):
        config = {k: v for k, v in teacher.model.config.to_dict().items() if k not in _INCIDENTAL}
        config |= {"scale": teacher.scale.tolist(), "shift": teacher.shift.tolist(), "grid": teacher.grid}
        if isinstance(teacher, ImageTeacher):
            config["tubelet"] = teacher.tubelet
        kind = teacher.family
    else:
        raise TypeError(f"a {type(teacher).__name__} has no fingerprint that a cache could be made for")
    return {"teacher": f"{kind} {config_hash(config)}", "weights": weights_hash(teacher)}


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the sha256 of a configuration's values."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def weights_hash(module: torch.nn.Module) -> str:
    """Return :func:`tensors_hash` of the state dict."""
    return tensors_hash(module.state_dict())


def tensors_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 over name, dtype, shape and bytes of each tensor, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
