"""Videos in WebDataset tar shards, read by offset."""

import hashlib
import json
import logging
import threading
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from fastvid.data.inventory import Item
from fastvid.data.shards.dataset_json import NAME, ShardInfo, load_dataset
from fastvid.data.shards.entry import Entry, Place
from fastvid.data.shards.index import ShardIndex, index_path, load_index, read_header
from fastvid.data.source import VIDEO_SUFFIXES, Origin, Sample
from fastvid.data.walk import such_as
from fastvid.names import spelled
from fastvid.video import DecodeError

# Indexes kept in memory: two windows of the default size. One of a thousand videos takes about half a megabyte.
log = logging.getLogger(__name__)

_INDEXES = 32


class ShardFiles(Protocol):
    """The place that shards and their indexes are read from."""

    @property
    def names(self) -> Sequence[str]:
        """Return the file names of the tars, in order."""
        ...

    def index(self, shard: int) -> ShardIndex:
        """Return the index of a shard.

        Raises:
            ValueError: it is damaged.
        """
        ...

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Read at most ``size`` bytes of a tar.

        Raises:
            OSError: they cannot be read.
        """
        ...

    def stamps(self) -> list[str]:
        """Return for each shard a string that changes with it or its index. No tar and no whole index is read for
        it.
        """
        ...

    def renew(self, shard: int) -> None:
        """Replace a copy that differs from its original; called when bytes of a tar are not those that were indexed."""
        ...

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        """Announce the shards that are read now and next; see :meth:`fastvid.data.Source.prefetch`."""
        ...


class LocalShards:
    """Shards in local files.

    Args:
        shards: the tar files, in order.
        facts: what ``dataset.json`` says of them; without it they are indexed where they lie, if they are not yet.

    Raises:
        FileNotFoundError: a shard that ``dataset.json`` names is not there.
        ValueError: or has another size.
    """

    def __init__(self, shards: Sequence[Path], facts: Sequence[ShardInfo] | None = None):
        self._shards, self._facts = list(shards), facts
        self.names = [shard.name for shard in shards]
        for shard, fact in zip(self._shards, facts or (), strict=bool(facts)):
            try:
                size = shard.stat().st_size
            except FileNotFoundError:
                raise FileNotFoundError(f"{shard} is missing: {NAME} beside it names it") from None
            if size != fact.bytes:
                raise ValueError(f"{shard} has {size} bytes where {NAME} says {fact.bytes}: copy it again")

    def index(self, shard: int) -> ShardIndex:
        if self._facts is None:
            return load_index(self._shards[shard])
        path = index_path(self._shards[shard])
        try:
            return check_index(path.read_bytes(), str(path), self._facts[shard])
        except FileNotFoundError:
            raise ValueError(f"{path} is missing: run `python -m fastvid.data index` on the folder") from None
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error

    def read(self, shard: int, offset: int, size: int) -> bytes:
        with self._shards[shard].open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def stamps(self) -> list[str]:
        if self._facts is not None:
            return [fact.stamp for fact in self._facts]
        headers = [read_header(s) or load_index(s).header for s in self._shards]
        return [f"{header.bytes} {header.crc32:08x}" for header in headers]

    def renew(self, shard: int) -> None:
        """Do nothing: these are the originals."""

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        """Do nothing: the files are local."""

    def sizes(self) -> list[int]:
        """Return the number of samples in each shard. Shards without an index are indexed first."""
        if self._facts is not None:
            return [fact.samples for fact in self._facts]
        headers = (read_header(shard) for shard in self._shards)
        return [h.samples if h else len(load_index(s)) for h, s in zip(headers, self._shards, strict=True)]


def check_index(data: bytes, where: str, facts: ShardInfo) -> ShardIndex:
    """Parse an index and check that it is the one that ``dataset.json`` names.

    Raises:
        ValueError: it is another one, or damaged.
    """
    if len(data) != facts.index_bytes or hashlib.sha256(data).hexdigest() != facts.index_sha256:
        raise ValueError(
            f"{where} is not the index that {NAME} names: copy it again, or run `python -m fastvid.data index` on the "
            "folder"
        )
    return ShardIndex(data, where)


def open_shards(folder: Path, shards: Sequence[Path]) -> "ShardSource":
    """Open the tar shards of a local folder, by its ``dataset.json`` where it has one.

    Raises:
        FileNotFoundError: a shard that it names is not there.
        ValueError: something is damaged, or holds no videos.
    """
    path = folder / NAME
    if not path.exists():
        files = LocalShards(shards)
        return ShardSource(files, files.sizes(), str(folder), folder=folder)
    dataset = load_dataset(folder)
    unnamed = sorted({shard.name for shard in shards} - {fact.name for fact in dataset.shards})
    if unnamed:
        raise ValueError(
            f"{path} does not name {such_as(unnamed)}, which lies beside it: run `python -m fastvid.data index` on the "
            "folder, or move it elsewhere"
        )
    files = LocalShards([folder / fact.name for fact in dataset.shards], dataset.shards)
    return ShardSource(files, files.sizes(), str(folder), labels=list(dataset.labels), folder=folder)


class ShardSource:
    """Videos in tar shards. A sample's key is ``<shard name>/<member name>``.

    A read takes memory for one video, whatever the size of the shard, and its checksum is compared: FFmpeg would decode
    flipped bits without a word. Indexes are read when a sample of their shard is asked for.

    Args:
        files: where the shards are.
        sizes: samples in each.
        where: for messages.
        labels: those that occur, where that is known; else all indexes are read to find out.
        folder: the local folder they are in, or None.
    """

    def __init__(
        self,
        files: ShardFiles,
        sizes: Sequence[int],
        where: str,
        labels: Sequence[str] | None = None,
        folder: Path | None = None,
    ):
        self._folder = folder
        self.shard_sizes = list(sizes)
        if not sum(self.shard_sizes):
            endings = ", ".join(VIDEO_SUFFIXES)
            raise ValueError(
                f"no videos in the tar files of {spelled(where)}: a video is a member named like KEY.mp4 ({endings})"
            )
        self._files, self._labels = files, None if labels is None else sorted(labels)
        self.samples = _ShardSamples(files, self.shard_sizes)
        self.description = f"{len(self.samples)} videos in {len(self.shard_sizes)} tar shards in {spelled(where)}"

    def classes(self) -> list[str]:
        if self._labels is None:
            self._labels = sorted({sample.label for sample in self.samples if sample.label is not None})
        return self._labels

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        self._files.prefetch(current, upcoming)

    def inventory(self) -> list[Item]:
        """Return its shards with their checksums; see :mod:`fastvid.data.inventory`."""
        rows = zip(self._files.names, self._files.stamps(), self.shard_sizes, strict=True)
        return [Item(name, stamp, videos) for name, stamp, videos in rows]

    def size(self, index: int) -> int:
        return self.samples.entry(index)[1].size

    def origin(self, index: int) -> Origin:
        entry = self.samples.entry(index)[1]
        return Origin(entry.key, entry.size, entry.crc32, self._folder)

    def read(self, index: int) -> bytes:
        return self._member(*self.samples.entry(index))

    def fields(self, index: int) -> dict[str, Any]:
        shard, entry = self.samples.entry(index)
        if entry.fields is None:
            return {}
        data = self._member(shard, entry.fields)
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DecodeError("text", f"its .json in {self._files.names[shard]} is no JSON: {error}") from error
        return fields if isinstance(fields, dict) else {}

    def _member(self, shard: int, place: Entry | Place) -> bytes:
        try:
            data = self._files.read(shard, place.offset, place.size)
            if not _is_member(data, place):
                self._files.renew(shard)
                data = self._files.read(shard, place.offset, place.size)
        except OSError as error:
            raise DecodeError("read", f"{self._files.names[shard]}: {error.strerror or error}") from error
        if not _is_member(data, place):
            raise DecodeError(
                "checksum",
                f"{place.size} bytes at {place.offset} of {self._files.names[shard]} are not those that were indexed",
            )
        return data


def _is_member(data: bytes, place: Entry | Place) -> bool:
    return len(data) == place.size and zlib.crc32(data) == place.crc32


class _ShardSamples(Sequence[Sample]):
    """All samples of all shards, each made from its line of an index when it is asked for."""

    def __init__(self, files: ShardFiles, sizes: Sequence[int]):
        self._files, self._ends = files, list(accumulate(sizes))
        self._said_old = False
        self._indexes: dict[int, ShardIndex] = {}
        self._lock, self._latest = threading.Lock(), threading.local()

    def __getstate__(self):  # what was read stays behind
        return self._files, self._ends, self._said_old

    def __setstate__(self, state):
        self._files, self._ends, self._said_old = state
        self._indexes, self._lock, self._latest = {}, threading.Lock(), threading.local()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        shard, entry = self.entry(index)
        stem = self._files.names[shard].removesuffix(".tar")
        return Sample(spelled(f"{stem}/{entry.key}"), entry.label, entry.caption, entry.video, entry.fields is not None)

    def entry(self, index: int) -> tuple[int, Entry]:
        """Return the shard and entry of a sample, without a frame table of an older version. Each thread keeps its
        latest entry, because key, size, bytes and frames are asked for one after the other.
        """
        if getattr(self._latest, "index", None) != index:
            shard, row = self.place(index)
            entries = self.entries(shard)
            entry = entries[row] if entries.has_tables else replace(entries[row], video=None)
            self._latest.found, self._latest.index = (shard, entry), index
        return self._latest.found

    def place(self, index: int) -> tuple[int, int]:
        """Return the shard of a sample, and its row there."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        shard = bisect_right(self._ends, index)
        return shard, index - (self._ends[shard - 1] if shard else 0)

    def entries(self, shard: int) -> ShardIndex:
        """Return the index of a shard, from memory if it was among the latest."""
        with self._lock:
            found = self._indexes.pop(shard, None)
            if found is not None:
                self._indexes[shard] = found  # the latest comes last
                return found
        found = self._files.index(shard)  # outside the lock: a slow one must not hold up the others
        if not found.has_tables and not self._said_old:
            self._said_old = True
            log.warning(
                "the index of %s is of an older version, as others may be: frame tables are read from the videos "
                "instead; `python -m fastvid.data index` on the folder makes the indexes anew",
                self._files.names[shard],
            )
        with self._lock:
            while len(self._indexes) >= _INDEXES:
                del self._indexes[next(iter(self._indexes))]
            self._indexes[shard] = found
        return found
