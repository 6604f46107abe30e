"""``dataset.json``: what a folder of shards holds, so that opening it costs the same for a thousand videos and for ten
million."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fastvid.files import write_whole
from fastvid.names import spelled

NAME = "dataset.json"
_FORMAT, _VERSION = "fastvid shards", 1


@dataclass(frozen=True)
class ShardInfo:
    """One shard.

    Attributes:
        name: file name of the tar.
        samples: videos in it.
        bytes: size of the tar.
        sha256: sha256 of the tar, hexadecimal.
        index_bytes: size of its index.
        index_sha256: sha256 of its index.
    """

    name: str
    samples: int
    bytes: int
    sha256: str
    index_bytes: int
    index_sha256: str

    @property
    def stamp(self) -> str:
        """Return a string that changes with any byte of the tar or its index."""
        return f"{self.sha256} {self.index_sha256}"


@dataclass(frozen=True)
class Dataset:
    """The content of ``dataset.json``.

    Attributes:
        shards: in order.
        labels: videos with each label.
        captions: videos with a caption.
        codecs: videos of each codec; those that could not be read are counted under ``"unreadable"``, texts without a
            video under ``"text"``.
        frames: in all videos.
        seconds: seconds of all videos.
        video_bytes: bytes of all videos.
        made_by: command and options that made the shards.
        described: samples about which more is written than label and caption, such as conversations; None where an
            older version did not count them.
    """

    shards: tuple[ShardInfo, ...]
    labels: dict[str, int] = field(default_factory=dict)
    captions: int = 0
    codecs: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    seconds: float = 0.0
    video_bytes: int = 0
    made_by: dict[str, Any] = field(default_factory=dict)
    described: int | None = None

    @property
    def samples(self) -> int:
        """Return the number of videos in all shards."""
        return sum(shard.samples for shard in self.shards)

    @property
    def hash(self) -> str:
        """Return the sha256 over the shards' names and checksums, which identifies the data of a latent cache."""
        lines = "".join(f"{s.name} {s.sha256} {s.index_sha256}\n" for s in self.shards)
        return hashlib.sha256(spelled(lines).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        values = {"format": _FORMAT, "version": _VERSION, "samples": self.samples, **asdict(self)}
        return json.dumps({**values, "checksum": _checksum(values)}, indent=1).encode() + b"\n"

    @staticmethod
    def from_bytes(data: bytes, where: str) -> "Dataset":
        """Parse the content that :meth:`to_bytes` returns.

        Raises:
            ValueError: damaged, edited, or of another version.
        """
        try:
            values = json.loads(data)
            known = values["format"] == _FORMAT and values["version"] == _VERSION
            if known and values.pop("checksum") == _checksum(values):
                names = {f.name for f in fields(Dataset)} - {"shards", "described"}
                dataset = Dataset(
                    shards=tuple(_shard(s) for s in values["shards"]),
                    described=values.get("described"),
                    **{name: values[name] for name in names},
                )
                if dataset.samples == values["samples"] and _plausible(dataset):
                    return dataset
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            pass  # said below, with the file's name
        raise ValueError(
            f"{where} is damaged, was edited, or was written by another version: `python -m fastvid.data index` on "
            "the folder writes it anew from the shards"
        )


def load_dataset(folder: Path) -> Dataset:
    """Read the ``dataset.json`` of a folder of shards.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read, or see :meth:`Dataset.from_bytes`.
    """
    path = folder / NAME
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"no {NAME} in {spelled(folder)}: `python -m fastvid.data index` writes it for shards, `pack` makes shards"
        ) from None
    except OSError as error:
        raise ValueError(f"{spelled(path)} cannot be read: {error.strerror or error}") from error
    return Dataset.from_bytes(data, str(path))


def save_dataset(folder: Path, dataset: Dataset) -> None:
    """Write ``dataset.json``, complete or not at all."""
    write_whole(folder / NAME, dataset.to_bytes())


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _plausible(dataset: Dataset) -> bool:
    """Return whether every value has the right type and range."""
    counts = [dataset.captions, dataset.frames, dataset.video_bytes, dataset.described or 0]
    for table in (dataset.labels, dataset.codecs):
        counts += table.values()
    return (
        all(type(count) is int and count >= 0 for count in counts)
        and type(dataset.seconds) in (int, float)
        and math.isfinite(dataset.seconds)
        and isinstance(dataset.made_by, dict)
    )


def _shard(values: dict[str, Any]) -> ShardInfo:
    shard = ShardInfo(**values)
    numbers, texts = (shard.samples, shard.bytes, shard.index_bytes), (shard.sha256, shard.index_sha256)
    if not all(type(x) is int and x >= 0 for x in numbers) or not all(len(x) == 64 for x in texts):
        raise ValueError("a shard's sizes or checksums are none")
    if not shard.name.endswith(".tar") or "/" in shard.name or shard.name.startswith("."):
        raise ValueError(f"{shard.name!r} is not the file name of a shard")
    return shard
