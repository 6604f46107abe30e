"""Videos in WebDataset tar shards, read by offset."""

import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fastvid.data.inventory import Item
from fastvid.data.shards.dataset_json import NAME, ShardInfo, load_dataset
from fastvid.data.shards.entry import Entry, Place
from fastvid.data.shards.index import ShardIndex, index_path, load_index, read_header
from fastvid.data.shards.shard_samples import Indexes, ShardSamples
from fastvid.data.source import KINDS, VIDEO_SUFFIXES, Origin
from fastvid.data.walk import such_as
from fastvid.names import spelled
from fastvid.video import DecodeError
from fastvid.video.picture_archive import some_frames


class ShardFiles(Indexes, Protocol):
    """The place that shards and their indexes are read from."""

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
        self._kinds: np.ndarray | None = None
        self.shard_sizes = list(sizes)
        if not sum(self.shard_sizes):
            endings = ", ".join(VIDEO_SUFFIXES)
            raise ValueError(
                f"no videos in the tar files of {spelled(where)}: a video is a member named like KEY.mp4 ({endings})"
            )
        self._files, self._labels = files, None if labels is None else sorted(labels)
        self.samples = ShardSamples(files, self.shard_sizes)
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

    def kinds(self) -> np.ndarray:
        if self._kinds is None:
            found = [KINDS.index(k) for shard in range(len(self.shard_sizes)) for k in self._files.index(shard).kinds()]
            self._kinds = np.array(found, np.int8)
        return self._kinds

    def frames(self, index: int, numbers: Sequence[int]) -> bytes | None:
        shard, entry = self.samples.entry(index)
        if not entry.pictures:
            return None
        return some_frames({number: self._member(shard, entry.pictures[number]) for number in numbers})

    def latents(self, index: int) -> bytes | None:
        shard, entry = self.samples.entry(index)
        return None if entry.latents is None else self._member(shard, entry.latents)

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
