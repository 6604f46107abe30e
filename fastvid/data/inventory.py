"""A record of what a data set holds, with which a later start can tell what changed.

For shards, the items are the shards with the checksums from their ``dataset.json`` or their indexes. No sample is read,
so the cost grows with the shards and not with the samples. For loose files, the items are the files with their sizes
and labels; a file that is replaced by one of the same size is not noticed.
"""

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from fastvid.data.source import Source
from fastvid.files import write_whole
from fastvid.video import DecodeError

FILE = "data.json.gz"
_FORMAT, _VERSION = "fastvid inventory", 1
_MOST_LISTED = 1_000_000  # items; of more, only the fingerprint is kept
_NAMED = 3  # examples in a sentence


@dataclass(frozen=True)
class Item:
    """An item of an inventory.

    Attributes:
        name: key of a video, or name of a shard.
        stamp: string that changes when its content or its labels do.
        videos: number of videos in it.
    """

    name: str
    stamp: str
    videos: int = 1


@runtime_checkable
class Itemized(Protocol):
    """A source that lists what it holds without reading every sample."""

    def inventory(self) -> list[Item]:
        """Return its shards, in order."""
        ...


@dataclass(frozen=True)
class Inventory:
    """The contents of a data set at one time.

    Attributes:
        videos: number of videos.
        fingerprint: sha256 of the items, in the source's order.
        items: the items; None where there are too many to keep.
    """

    videos: int
    fingerprint: str
    items: list[Item] | None

    @staticmethod
    def from_source(source: Source) -> "Inventory":
        """List what a source holds now."""
        items = items_of(source)
        digest = hashlib.sha256()
        for item in items:
            digest.update(f"{item.name}\0{item.stamp}\0{item.videos}\n".encode())
        kept = items if len(items) <= _MOST_LISTED else None
        return Inventory(sum(item.videos for item in items), digest.hexdigest(), kept)

    def save(self, folder: Path) -> None:
        """Write the inventory into a folder, complete or not at all."""
        items = None if self.items is None else [[item.name, item.stamp, item.videos] for item in self.items]
        values = {
            "format": _FORMAT, "version": _VERSION, "videos": self.videos, "fingerprint": self.fingerprint,
            "items": items,
        }  # fmt: skip
        write_whole(folder / FILE, gzip.compress(json.dumps(values).encode(), mtime=0))

    @staticmethod
    def load(folder: Path) -> "Inventory | None":
        """Read what :meth:`save` wrote, or return None where there is nothing.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            values = json.loads(gzip.decompress(path.read_bytes()))
            if (values["format"], values["version"]) == (_FORMAT, _VERSION):
                items = None if values["items"] is None else [Item(*item) for item in values["items"]]
                return Inventory(values["videos"], values["fingerprint"], items)
        except (EOFError, gzip.BadGzipFile, ValueError, TypeError, KeyError):
            pass  # reported below, with the file's name
        raise ValueError(f"{path} is damaged, or was written by another version: remove it to go on without it")

    def changes(self, now: "Inventory") -> list[str]:
        """Describe what is different now, with a phrase for each kind of change. Return an empty list where nothing
        changed.
        """
        if now.fingerprint == self.fingerprint:
            return []
        if self.items is None or now.items is None:
            return [f"{self.videos} videos then and {now.videos} now, too many to be listed"]
        old, new = ({item.name: item for item in items} for items in (self.items, now.items))
        kinds = {
            "added": [new[name] for name in new if name not in old],
            "removed": [old[name] for name in old if name not in new],
            "changed": [new[name] for name in new if name in old and old[name] != new[name]],
        }
        said = [f"{_counted(items)} {kind} ({_examples(items)})" for kind, items in kinds.items() if items]
        return said or ["the same videos in another order"]


def with_named_videos(lines: Sequence[str], folder: Path, source: Source) -> list[str]:
    """Add the names of added, missing and changed videos to the differences between cached and wanted latents.

    Args:
        lines: result of :func:`fastvid.latents.manifest.differences`.
        folder: folder of the latents. Older folders have no inventory; then nothing is added.
        source: the videos that are wanted.

    Raises:
        ValueError: the inventory in the folder is damaged.
    """
    before = Inventory.load(folder) if any(line.startswith("dataset:") for line in lines) else None
    changes = [] if before is None else before.changes(Inventory.from_source(source))
    return [*lines, *([f"since then: {'; '.join(changes)}"] if changes else [])]


def items_of(source: Source) -> list[Item]:
    """Return the items of a source. For a source that does not list them itself, the items are its samples."""
    if isinstance(source, Itemized):
        return source.inventory()
    return [
        Item(sample.key, f"{_size(source, row)} {json.dumps(sample.label)}")
        for row, sample in enumerate(source.samples)
    ]


def _size(source: Source, row: int) -> int:
    try:
        return source.size(row)
    except DecodeError:  # a broken link: training finds it, names it and counts it
        return -1


def _counted(items: Sequence[Item]) -> str:
    videos = sum(item.videos for item in items)
    plural = "s" * (len(items) != 1)
    return f"{len(items)} file{plural}" if videos == len(items) else f"{len(items)} shard{plural} of {videos} videos"


def _examples(items: Sequence[Item]) -> str:
    names = ", ".join(item.name for item in items[:_NAMED])
    return f"{names}, ..." if len(items) > _NAMED else names
