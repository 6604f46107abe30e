"""Stores of latents, on the disk and in memory, read by sample key and view hash."""

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from fastvid.data.loader.batch import Batch, Latents
from fastvid.data.loader.decode_ahead import NO_VIEW
from fastvid.data.source import Source
from fastvid.latents.file import LatentFile, LatentIndex, empty_latents
from fastvid.latents.manifest import LatentManifest
from fastvid.random import sample_id
from fastvid.video import ViewSpec

# Indexes kept in memory: about 100 KB each for shards of a thousand clips.
_INDEXES = 64


class LatentStore(ABC):
    """Latents that stay as they are while they are read.

    Attributes:
        manifest: what the latents depend on.
        copies: latents of a clip that can be in memory at once while :class:`LatentLoader` reads ahead: those being
            read, those handed out, and those before them that the caller may still hold.
    """

    manifest: LatentManifest
    copies = 3

    @abstractmethod
    def clips(self) -> Iterator[tuple[str, list[int]]]:
        """Yield the key and view hashes of each clip; the hash of a view that could not be decoded is -1."""

    @abstractmethod
    def read(self, keys: Sequence[str], view_hashes: Sequence[int]) -> Latents:
        """Return the latents of these views.

        Args:
            keys: keys of the samples.
            view_hashes: :attr:`fastvid.video.View.hash` of the view of each that is about to be used.

        Raises:
            KeyError, ValueError: one of them is not there.
        """

    def for_batch(self, batch: Batch) -> Latents | None:
        """Return the latents of a batch's views; see :meth:`read`."""
        return self.read(batch.keys, batch.view_hashes.tolist())

    def flush(self) -> None:  # noqa: B027 (a window of latents does something here)
        """Do nothing: reading leaves nothing to be written."""

    def close(self) -> None:  # noqa: B027 (likewise)
        """Do nothing: no thread or file stays open between reads."""


class LatentCache(LatentStore):
    """The latents in a folder. Nothing is ever found by counting: a clip is found by its key, its view by the view's
    hash, and what is read has its checksum compared.

    Args:
        folder: folder of the cache.

    Attributes:
        folder: the same.
        manifest: what the latents depend on.

    Raises:
        FileNotFoundError: there is no cache.
        ValueError: it is incomplete, damaged, or holds files of another.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        self.manifest = LatentManifest.load(self.folder)
        paths = latent_files(self.folder)
        if len(paths) < self.manifest.shards:
            raise ValueError(
                f"the latents in {self.folder} are not complete: {len(paths)} of {self.manifest.shards} shards are "
                "there; run the same command again, it goes on where it stopped"
            )
        self._files = [LatentFile(path, self.manifest) for path in paths]
        self._indexes: dict[int, LatentIndex] = {}
        self._lock = threading.Lock()
        ids = np.concatenate([file.ids for file in self._files])
        lengths = [len(file) for file in self._files]
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]
        self._starts = np.cumsum([0, *lengths])

    def __len__(self) -> int:
        """Return the number of clips with at least one view."""
        return len(self._ids)

    @property
    def views(self) -> ViewSpec:
        """Return the specification with which the views were drawn."""
        return self.manifest.view_spec

    def clips(self) -> Iterator[tuple[str, list[int]]]:
        for shard in range(len(self._files)):
            index = self._index(shard)
            yield from zip(index.keys, index.view_hashes.tolist(), strict=True)

    def read(self, keys: Sequence[str], view_hashes: Sequence[int]) -> Latents:
        """Return the latents of these views.

        Args:
            keys: keys of the samples.
            view_hashes: :attr:`fastvid.video.View.hash` of the view of each that is about to be used.

        Raises:
            KeyError: a clip is not in the cache.
            ValueError: a clip is, but not in this view; or a file is damaged.
        """
        out = empty_latents(self.manifest, len(keys))
        for slot, (key, view_hash) in enumerate(zip(keys, view_hashes, strict=True)):
            shard, row = self._find(key)
            index = self._index(shard)
            views = np.flatnonzero(index.view_hashes[row] == view_hash)
            if not len(views) or view_hash == NO_VIEW:
                raise ValueError(self._other_view(key, view_hash, index.view_hashes[row]))
            self._files[shard].read(index, row, int(views[0]), out, slot)
        return out

    def _find(self, key: str) -> tuple[int, int]:
        """Return the file and row of a clip."""
        wanted = sample_id(key)
        at = int(np.searchsorted(self._ids, wanted))
        while at < len(self._ids) and self._ids[at] == wanted:  # several, where two keys have one id
            place = int(self._order[at])
            shard = int(np.searchsorted(self._starts, place, side="right")) - 1
            row = place - int(self._starts[shard])
            if self._index(shard).keys[row] == key:
                return shard, row
            at += 1
        for shard in range(len(self._files)):
            self._index(shard)  # a damaged id hides its clip: that is the file's fault, and said
        listed = bad_clips(self.folder).get(key)
        if listed is not None:
            raise KeyError(
                f"{key} has no latents in {self.folder}: when they were made it was bad ({listed['reason']}: "
                f"{listed['detail']}), and now it is not; `python -m fastvid.cache ... --retry-bad` adds it"
            )
        raise KeyError(f"{key} has no latents in {self.folder}, which was made from other videos or has lost some")

    def _index(self, shard: int) -> LatentIndex:
        with self._lock:
            found = self._indexes.pop(shard, None) or self._files[shard].index()
            while len(self._indexes) >= _INDEXES:
                del self._indexes[next(iter(self._indexes))]
            self._indexes[shard] = found
            return found

    def _other_view(self, key: str, wanted: int, cached: np.ndarray) -> str:
        m = self.manifest
        there = ", ".join("could not be decoded" if h == NO_VIEW else str(h) for h in cached.tolist())
        return (
            f"{key}: the view about to be used has hash {wanted}, the {len(cached)} views in {self.folder} have "
            f"{there}. They were drawn with seed {m.view_seed} as {m.views}; draw the same ones, or make the cache "
            "anew. Where a view could not be decoded then and can be now, `python -m fastvid.cache ... --retry-bad` "
            "adds it"
        )


class MemoryLatents(LatentStore):
    """Latents in memory; rows are added once and read as often as wanted.

    Args:
        manifest: what the latents depend on; its ``clips`` are the most that can be added.

    Attributes:
        manifest: the same.
    """

    def __init__(self, manifest: LatentManifest):
        self.manifest = manifest
        self._views = manifest.views_per_clip
        self._latents = empty_latents(manifest, manifest.clips * self._views)
        self._hashes: dict[str, list[int]] = {}
        self._rows: dict[tuple[str, int], int] = {}

    def __len__(self) -> int:
        """Return the number of clips with at least one view."""
        return len(self._hashes)

    def add(self, key: str, view_hashes: Sequence[int], latents: Latents) -> None:
        """Add the V views of a clip, with their hashes (-1 for one that could not be decoded)."""
        first = len(self._hashes) * self._views
        for room, part in zip(self._latents.parts, latents.parts, strict=True):
            room[first : first + self._views] = part
        self._hashes[key] = list(view_hashes)
        self._rows |= {(key, view_hash): first + view for view, view_hash in enumerate(view_hashes)}

    def clips(self) -> Iterator[tuple[str, list[int]]]:
        yield from self._hashes.items()

    def read(self, keys: Sequence[str], view_hashes: Sequence[int]) -> Latents:
        """Return the latents of these views.

        Raises:
            KeyError: one of them is not there.
        """
        rows = torch.tensor([self._rows[key, h] for key, h in zip(keys, view_hashes, strict=True)], dtype=torch.int64)
        parts = [part.index_select(0, rows) for part in self._latents.parts]
        scale = parts.pop(1) if self._latents.scale is not None else None
        return Latents(parts[0], scale, parts[1] if len(parts) > 1 else None)


def latent_files(folder: Path) -> list[Path]:
    """Return the files of a cache, one for each finished shard, in order of their names."""
    return sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))


def bad_list(latents: Path) -> Path:
    """Return the path of the list of a shard's clips without latents."""
    return latents.with_suffix(".bad.jsonl")


def read_bad(path: Path) -> list[dict]:
    """Return the records ``{"key", "view", "reason", "detail"}`` of a list of bad clips; none where there is no
    list."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def bad_clips(folder: Path) -> dict[str, dict]:
    """Return all clips of a cache that lack a view, with the last record of each."""
    return {record["key"]: record for path in folder.glob("*.bad.jsonl") for record in read_bad(path)}


def shard_names(source: Source) -> list[str]:
    """Return a file name without suffix for each shard: that of the tar, or a number where videos are loose files."""
    from fastvid.data.shards.reader import ShardSource

    names, first = [], 0
    for shard, size in enumerate(source.shard_sizes):
        stem = f"files-{shard:06d}"
        if size and isinstance(source, ShardSource):
            stem = source.samples[first].key.split("/")[0]
        names.append(stem)
        first += size
    return names
