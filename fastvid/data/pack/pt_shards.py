"""Shards that ``torch.save`` wrote: lists of samples with decoded frames, a caption, and perhaps latents of the frames.

A file is mapped into memory and never read whole: a sample takes memory for itself, however large its shard is.
"""

import functools
import io
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import numpy as np
from PIL import Image

from fastvid.data.pack.item import Collection, Item, collect
from fastvid.data.shards.keys import key_of
from fastvid.data.shards.picture_samples import LATENTS_SUFFIX
from fastvid.data.shards.tar_writer import tar_member
from fastvid.names import spelled
from fastvid.video import DecodeError

PT_SUFFIX = ".pt"
Picture = Literal["jpg", "png"]

_TOGETHER = 32  # samples that are read of an open file
_KEY = "sample"  # of members that are given on and named anew
_READ = ("frames", "latents", "caption")
_SHAPE = "a shard is {'samples': [{'frames': uint8 [F, 3, H, W], 'latents': [F, C, h, w], 'caption': text}, ...]}"


def pt_shards(src: Path) -> dict[str, Collection]:
    """Collect the samples of the ``.pt`` files below a folder, or of one such file.

    A sample's caption and other texts and numbers are kept; its frames become pictures, its latents float16.

    Raises:
        FileNotFoundError: there is no such file.
    """
    root = src if src.is_dir() else src.parent
    files = sorted(path for path in src.rglob(f"*{PT_SUFFIX}") if path.is_file()) if src.is_dir() else [src]
    if not files:
        raise FileNotFoundError(f"no {PT_SUFFIX} files below {src}")
    items: list[Item] = []
    other: set[str] = set()
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            samples = _samples(path)
        except DecodeError:
            items.append(Item(key_of(name), name, path.stat().st_size, member="-"))  # rejected with its sentence
            continue
        for number, sample in enumerate(samples):
            facts, left = _facts(sample)
            other |= left
            items.append(
                Item(f"{key_of(name)}/{number:06d}", name, size=_bytes_of(sample), member=str(number), **facts)
            )
    notes = [f"left out: {', '.join(sorted(other))} of the samples, which are neither text nor number"] if other else []
    return {"": collect(root, items, notes=notes)}


def read_pt_sample(path: Path, number: str, picture: Picture) -> bytes:
    """Return a sample as members of a tar, see :mod:`fastvid.video.picture_archive`.

    Args:
        path: the shard.
        number: position of the sample.
        picture: how frames are stored: ``jpg`` of quality 95 in full colour, or ``png``, which loses nothing.

    Raises:
        DecodeError: the shard or the sample cannot be used.
    """
    samples = _opened(path, int(number) // _TOGETHER) if number.isdecimal() else _samples(path)
    if not number.isdecimal() or int(number) >= len(samples):
        raise DecodeError("container", f"there is no sample {number} among {len(samples)}")
    sample = samples[int(number)]
    frames = _array(sample, "frames")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1] != 3 or not len(frames):
        raise DecodeError("container", f"its frames are {frames.dtype} {list(frames.shape)}: {_SHAPE}")
    members = [
        tar_member(f"{_KEY}.{index:03d}.{picture}", _picture(frame.transpose(1, 2, 0), picture))
        for index, frame in enumerate(frames)
    ]
    if isinstance(sample, Mapping) and sample.get("latents") is not None:
        members.append(tar_member(_KEY + LATENTS_SUFFIX, _latents(_array(sample, "latents"), len(frames))))
    return b"".join(members)


@functools.lru_cache(maxsize=1)
def _opened(path: Path, group: int) -> list[Any]:
    """Return an open shard. With the next group it is opened anew, so that what was read of it leaves the memory."""
    return _samples(path)


def _samples(path: Path) -> list[Any]:
    """Open a shard; nothing of its frames is read."""
    import torch  # the other formats do without

    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
        raise DecodeError("container", f"not a shard that can be read: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise DecodeError("read", error.strerror or str(error)) from error
    samples = content.get("samples") if isinstance(content, dict) else content
    if not isinstance(samples, list):
        raise DecodeError("container", f"it has no list of samples: {_SHAPE}")
    return samples


def _array(sample: Any, name: str) -> np.ndarray:
    import torch

    value = sample.get(name) if isinstance(sample, dict) else None
    if not isinstance(value, torch.Tensor):
        raise DecodeError("container", f"it has no tensor of {name}: {_SHAPE}")
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _bytes_of(sample: Any) -> int:
    frames = sample.get("frames") if isinstance(sample, dict) else None
    return int(getattr(frames, "nbytes", 0))


def _facts(sample: Any) -> tuple[dict[str, Any], set[str]]:
    """Return what is written about a sample, and the names of what is left out."""
    if not isinstance(sample, dict):
        return {}, set()
    caption = sample.get("caption")
    plain = {k: v for k, v in sample.items() if isinstance(k, str) and isinstance(v, str | int | float)}
    left = {spelled(str(name)) for name in sample if name not in plain and name not in _READ}
    extra = {name: value for name, value in plain.items() if name not in _READ}
    return {"caption": caption if isinstance(caption, str) else None, "extra": extra}, left


def _picture(pixels: np.ndarray, kind: Picture) -> bytes:
    file = io.BytesIO()
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "jpg" else {}
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG" if kind == "jpg" else "PNG", **options)
    return file.getvalue()


def _latents(values: np.ndarray, frames: int) -> bytes:
    if values.ndim != 4 or len(values) != frames or values.dtype.kind != "f":
        raise DecodeError("container", f"its latents are {values.dtype} {list(values.shape)} of {frames} frames")
    with np.errstate(over="ignore"):  # looked for below
        narrow = values.astype(np.float16)
    if not np.isfinite(narrow).all():
        raise DecodeError("container", "its latents have values that float16 does not hold")
    file = io.BytesIO()
    np.save(file, narrow)
    return file.getvalue()
