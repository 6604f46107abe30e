"""Features of videos as a folder of files, written as they are computed; a stop loses at most one of them."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save

from fastvid.command import UserError
from fastvid.data import EvaluationDraws, Source
from fastvid.files import owned, write_whole
from fastvid.latents.compute import FrozenEncoder
from fastvid.latents.manifest import dataset_hash, differences
from fastvid.latents.video_features import Pool, VideoFeatures, stream_features
from fastvid.report.records import read_json
from fastvid.video import DecodeError

Form = Literal["safetensors", "npz"]
Element = Literal["float32", "float16"]

MANIFEST, INDEX, BAD = "features.json", "index.csv", "bad_samples.jsonl"
_FORMAT, _LOCK = "fastvid features", ".lock"
_PART_BYTES, _MOST_VIDEOS = 256 << 20, 4096  # of a file


@dataclass(frozen=True)
class FeatureOptions:
    """The form in which features of videos are kept.

    Attributes:
        pool: what is kept of a clip's tokens.
        clips: clips of each video, at moments evenly over it.
        form: kind of the files.
        element: dtype of the features.
        threads: decoding threads.
    """

    pool: Pool = "mean"
    clips: int = 1
    form: Form = "safetensors"
    element: Element = "float32"
    threads: int = 1

    def videos_in_a_file(self, encoder: FrozenEncoder) -> int:
        """Return the number of videos whose features are one file: 256 MB, and at most 4096."""
        T, H, W = encoder.frozen.grid
        rows = {"mean": 1, "time": T, "tokens": T * H * W}[self.pool] * self.clips
        size = rows * encoder.frozen.dim * (2 if self.element == "float16" else 4)
        return max(1, min(_MOST_VIDEOS, _PART_BYTES // size))


def write_features(
    folder: Path,
    encoder: FrozenEncoder,
    source: Source,
    draws: EvaluationDraws,
    options: FeatureOptions,
    *,
    path: str,
    progress: Callable[[int], None] = lambda videos: None,
    log: Callable[[str], None] = lambda sentence: None,
) -> VideoFeatures:
    """Write the features of all videos of a source into a folder, or go on where an earlier call was stopped.

    The folder holds ``features.json``, all that the features depend on; files ``part-00000.safetensors`` or ``.npz``
    with ``features`` [n, ...] and ``ids`` int64 [n], and keys and labels: in the metadata ``keys`` and ``labels`` of
    safetensors as JSON, in arrays of that name in npz; and in the end ``index.csv``, which names file and row of each
    key, and ``bad_samples.jsonl`` with the videos that could not be used, where there are any. Each file appears
    complete or not at all.

    Args:
        folder: made if it is not there.
        encoder: on its device.
        source: the videos.
        draws: their views.
        options: what is kept, and how.
        path: what the source was opened from.
        progress: called with the number of videos done since the last call.
        log: called with a sentence on each video that cannot be used.

    Returns:
        The keys, labels and bad videos, without the values.

    Raises:
        UserError: the folder holds features of something else, or features are not finite.
        BlockingIOError: another process writes there.
    """
    step, count = options.videos_in_a_file(encoder), len(source.samples)
    frozen = encoder.frozen
    manifest: dict[str, Any] = {
        "format": _FORMAT, "version": 1, "encoder": frozen.kind, "weights": frozen.weights, "layer": frozen.layer,
        "precision": encoder.precision, "grid": frozen.grid, "dim": frozen.dim, "views": draws.fingerprint,
        "pool": options.pool, "clips": options.clips, "form": options.form, "element": options.element,
        "dataset": dataset_hash(path, source), "videos": count, "videos_in_a_file": step,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    _check_folder(folder)
    with owned(folder / _LOCK):
        _begin(folder, manifest)
        firsts = range(0, count, step)
        files = {first: folder / f"part-{number:05d}.{options.form}" for number, first in enumerate(firsts)}
        missing = [first for first in firsts if not files[first].exists()]
        progress(sum(min(step, count - first) for first in firsts if first not in missing))
        rows = [row for first in missing for row in range(first, min(first + step, count))]
        stream = stream_features(encoder, source, rows, draws, pool=options.pool, threads=options.threads)
        for first in missing:
            part = VideoFeatures([], torch.empty(0), [], {})
            values: list[torch.Tensor] = []
            for _, (sample, feature) in zip(range(first, min(first + step, count)), stream, strict=False):
                progress(1)
                if isinstance(feature, DecodeError):
                    part.bad[sample.key] = str(feature)
                    log(f"{sample.key}: {feature}")
                    continue
                part.keys.append(sample.key)
                part.labels.append(sample.label)
                values.append(feature.to(getattr(torch, options.element)))
            part.values = torch.stack(values) if values else torch.empty(0, frozen.dim)
            write_whole(files[first], _as_bytes(part, options.form))
        parts = {file.name: _read(file, values=False) for file in files.values()}
        whole = _joined(list(parts.values()))
        write_whole(folder / INDEX, _index(parts).encode(errors="surrogateescape"))
        if whole.bad:
            lines = (json.dumps({"key": key, "reason": reason}) + "\n" for key, reason in whole.bad.items())
            write_whole(folder / BAD, "".join(lines).encode())
    return whole


def read_features(folder: str | Path) -> VideoFeatures:
    """Read all features that :func:`write_features` wrote into a folder.

    Raises:
        FileNotFoundError: there are none.
        ValueError: they are not complete yet.
    """
    folder = Path(folder)
    manifest = read_json(folder / MANIFEST)
    if manifest is None or manifest.get("format") != _FORMAT:
        raise FileNotFoundError(f"no features in {folder}: there is no {MANIFEST}")
    count = -(-manifest["videos"] // manifest["videos_in_a_file"])
    files = [folder / f"part-{number:05d}.{manifest['form']}" for number in range(count)]
    if lacking := [file.name for file in files if not file.exists()]:
        raise ValueError(
            f"{len(lacking)} of {count} files of features are missing in {folder}, such as {lacking[0]}: give the "
            "command that makes them again, and it goes on"
        )
    return _joined([_read(file) for file in files])


def _check_folder(folder: Path) -> None:
    """Raise UserError for a folder that holds anything but features."""
    others = sorted(file.name for file in folder.iterdir() if file.name != _LOCK)
    if others and not (folder / MANIFEST).exists():
        raise UserError(f"{folder} holds other files, such as {others[0]!r}: give a new folder for the features")


def _begin(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest of new features, or compare with what is there.

    Raises:
        UserError: it is of something else.
    """
    found = read_json(folder / MANIFEST)
    if found is None:
        write_whole(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        return
    flat = {name: value for name, value in found.items() if name != "views"}
    flat |= {f"views.{name}": value for name, value in found.get("views", {}).items()}
    if lines := differences(flat, manifest, "these options"):
        said = "; ".join(line.replace(" in the cache,", " there,") for line in lines)
        raise UserError(f"the features in {folder} were made for something else ({said}): give another folder")


def _as_bytes(part: VideoFeatures, form: str) -> bytes:
    if form == "safetensors":
        told = {"keys": part.keys, "labels": part.labels, "bad": part.bad}
        tensors = {"features": part.values.contiguous(), "ids": part.ids}
        return save(tensors, {name: json.dumps(value) for name, value in told.items()})
    file = io.BytesIO()
    np.savez(
        file, features=part.values.numpy(), ids=part.ids.numpy(), keys=np.array(part.keys, dtype=str),
        labels=np.array([label or "" for label in part.labels], dtype=str),
        bad_keys=np.array(list(part.bad), dtype=str), bad_reasons=np.array(list(part.bad.values()), dtype=str),
    )  # fmt: skip
    return file.getvalue()


def _read(path: Path, *, values: bool = True) -> VideoFeatures:
    """Read a file, without ``values`` all but the features."""
    if path.suffix == ".npz":
        with np.load(path) as found:
            bad = dict(zip(found["bad_keys"].tolist(), found["bad_reasons"].tolist(), strict=True))
            labels = [label or None for label in found["labels"].tolist()]
            features = torch.from_numpy(found["features"]) if values else torch.empty(0)
            return VideoFeatures(found["keys"].tolist(), features, labels, bad)
    with safe_open(path, "pt") as file:
        told = {name: json.loads(value) for name, value in file.metadata().items()}
        features = file.get_tensor("features") if values else torch.empty(0)
        return VideoFeatures(told["keys"], features, told["labels"], told["bad"])


def _joined(parts: list[VideoFeatures]) -> VideoFeatures:
    values = [part.values for part in parts if len(part.values)]
    return VideoFeatures(
        [key for part in parts for key in part.keys],
        torch.cat(values) if values else torch.empty(0),
        [label for part in parts for label in part.labels],
        {key: reason for part in parts for key, reason in part.bad.items()},
    )


def _index(parts: dict[str, VideoFeatures]) -> str:
    """Return a table of file and row of each key, as CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["key", "id", "label", "file", "row"])
    for name, part in parts.items():
        rows = zip(part.keys, part.ids.tolist(), part.labels, strict=True)
        table.writerows([key, number, label or "", name, row] for row, (key, number, label) in enumerate(rows))
    return text.getvalue()
