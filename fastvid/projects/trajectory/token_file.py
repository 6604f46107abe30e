"""Tokens as a file: computed once, found again by all that they depend on."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fastvid.files import write_whole
from fastvid.models.fingerprint import tensors_hash
from fastvid.projects.trajectory.token_set import ARRAYS, TokenSet

_FORMAT, _VERSION = "fastvid trajectory tokens", 1


def fingerprint_of(facts: dict[str, Any]) -> str:
    """Return the sha256 of all that tokens depend on. Sets with equal fingerprints are interchangeable."""
    return hashlib.sha256(json.dumps([_FORMAT, _VERSION, facts], sort_keys=True).encode()).hexdigest()


def save_tokens(path: Path, tokens: TokenSet, facts: dict[str, Any]) -> None:
    """Write tokens, and what they depend on, as one safetensors file that appears complete or not at all.

    Raises:
        OSError: it cannot be written.
    """
    arrays = {name: torch.from_numpy(np.ascontiguousarray(getattr(tokens, name))) for name in ARRAYS}
    about = {
        "format": _FORMAT, "version": str(_VERSION), "fingerprint": fingerprint_of(facts), "facts": json.dumps(facts),
        "frames": str(tokens.frames), "keys": json.dumps(tokens.keys), "sha256": tensors_hash(arrays),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(arrays, about))


def read_tokens(path: Path, fingerprint: str) -> TokenSet:
    """Read tokens that :func:`save_tokens` wrote.

    Args:
        path: the file.
        fingerprint: of all that they should depend on.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or depends on something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no tokens at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if about.get("fingerprint") != fingerprint:
        raise ValueError(f"{path} holds other tokens than its name says")
    if set(arrays) != set(ARRAYS) or about.get("sha256") != tensors_hash(arrays):
        raise ValueError(f"{path} is damaged: its checksum differs")
    values = {name: tensor.numpy() for name, tensor in arrays.items()}
    return TokenSet(keys=json.loads(about["keys"]), frames=int(about["frames"]), **values)
