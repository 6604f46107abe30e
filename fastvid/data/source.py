"""Where videos come from: the interface that loaders read, and how a path becomes one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from fastvid.names import spelled
from fastvid.random import sample_id
from fastvid.video import Limits, VideoInfo, probe

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")


@dataclass(frozen=True)
class Sample:
    """One video of a source.

    Attributes:
        key: stable name, unique in the source; masks, views and caches are keyed by it.
        label: its class, or None.
        caption: what it shows, in words, or None.
        video: its metadata and frame table, where that is indexed.
    """

    key: str
    label: str | None = None
    caption: str | None = None
    video: VideoInfo | None = None


class Source(Protocol):
    """A collection of videos that can be read in any order."""

    @property
    def samples(self) -> Sequence[Sample]:
        """The videos, in the source's order."""
        ...

    @property
    def shard_sizes(self) -> Sequence[int]:
        """How the samples, in order, fall into units that are cheap to read together."""
        ...

    @property
    def description(self) -> str:
        """For logs and reports."""
        ...

    def classes(self) -> list[str]:
        """The labels that occur, sorted: a class id is a position in this list."""
        ...

    def stage(self, now: Sequence[int], then: Sequence[int]) -> None:
        """Says which shards are about to be read, and which after them: a streaming source fetches these and lets go of
        all others. Reading from another shard stays possible."""
        ...

    def size(self, index: int) -> int:
        """Bytes of ``samples[index]``, without reading it.

        Raises:
            DecodeError: ``read``.
        """
        ...

    def read(self, index: int) -> bytes:
        """The whole file of ``samples[index]``.

        Raises:
            DecodeError: ``read`` or ``checksum``.
        """
        ...


@dataclass(frozen=True)
class Origin:
    """Where a sample comes from, below all subsets and joins.

    Attributes:
        name: of the video, the same in a folder and packed into shards, however these are cut: its path without ending.
        size: bytes, where an index has it.
        crc32: of its bytes, likewise.
        folder: the local folder that was opened, or None.
        listed: what the labels were read from where that is not the folders' names, such as a table's file name.
        part: which that says: 0 for training, 1 for validation, 2 for test; None where it says none.
        unlisted: whether it does not name this video.
    """

    name: str
    size: int | None = None
    crc32: int | None = None
    folder: Path | None = None
    listed: str | None = None
    part: int | None = None
    unlisted: bool = False


@runtime_checkable
class Traceable(Protocol):
    """A source that knows more of its samples than a loader needs."""

    def origin(self, index: int) -> Origin:
        """Where ``samples[index]`` comes from."""
        ...


def origin_of(source: Source, index: int) -> Origin:
    """Where ``samples[index]`` comes from; of a source that does not say, its key is the name."""
    return source.origin(index) if isinstance(source, Traceable) else Origin(source.samples[index].key)


def read_video(source: Source, index: int, limits: Limits) -> tuple[bytes, VideoInfo]:
    """Reads one video of a source, and its frame table from the index where there is one; a file over the limit is
    refused before a byte of it is read.

    Raises:
        DecodeError: it cannot be used, or is not what was indexed.
    """
    limits.check(size=source.size(index))
    data, info = source.read(index), source.samples[index].video
    if info is None:
        return data, probe(data, limits)
    limits.check(width=info.width, height=info.height, frames=info.frames, seconds=info.duration)
    return data, info


def classes_of(source: Source) -> list[str]:
    """The labels that occur, sorted: a class id is a position in this list."""
    return source.classes()


def open_source(
    path: str | Path,
    labels: str | Path | None = None,
    *,
    cache_dir: str | Path | None = None,
    disk_bytes: int = 8 << 30,
    window: int = 16,
) -> Source:
    """Opens videos at a path or URL.

    Args:
        path: a folder with WebDataset tar shards, one such shard, a folder tree of video files, or one video file; or
            the URL of a folder of shards with their ``dataset.json`` (``https://``, ``s3://``, ``gs://``, ``hf://``,
            ``file://``, ... as fsspec knows them).
        labels: a table of paths (below the folder) and labels, for a folder of videos, as
            :func:`fastvid.data.label_table.read_label_table` reads it; by default a video's label is in the lists of
            Something-Something V2 where these are there, or else the name of the folder it is in, below ``path``.
        cache_dir: where shards from a URL are kept; default: ``$FASTVID_CACHE``, or the user's cache directory.
        disk_bytes: what they take there at most. Processes with the same ``cache_dir`` share it.
        window: shards that the order mixes: two windows must fit into ``disk_bytes``.

    Returns:
        A :class:`Source` with at least one sample.

    Raises:
        FileNotFoundError: nothing is there, or a URL has no ``dataset.json``.
        ValueError: no videos are there, or videos beside tar files, a folder cannot be read, the labels do not fit
            them, a URL cannot be opened, or the cache is too small.
    """
    if "://" in str(path):
        from fastvid.data.demo_files import cache_dir as default_cache
        from fastvid.data.remote import Remote, without_secrets
        from fastvid.data.stream import open_stream

        if labels is not None:
            where = without_secrets(str(path))
            raise ValueError(f"--data.labels is for folders of videos; the shards in {where} carry their own labels")
        folder = default_cache() if cache_dir is None else Path(cache_dir).expanduser()
        return open_stream(Remote(str(path)), folder, disk_bytes, window)

    try:
        return _open_local(Path(path).expanduser(), labels)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{spelled(error.filename or path)} cannot be read: {error.strerror or error}") from error


def _open_local(path: Path, labels: str | Path | None) -> Source:
    from fastvid.data.folder import FolderSource
    from fastvid.data.shard_folders import require_only_shards
    from fastvid.data.shards import LocalShards, ShardSource, open_shards
    from fastvid.data.walk import shards_in

    if not path.exists():
        raise FileNotFoundError(f"no data at {spelled(path)}: give a folder of videos or of tar shards")
    folder = path.is_dir()
    shards = shards_in(path) if folder else [path] if path.suffix == ".tar" else []
    if not shards:
        return FolderSource(path, labels)
    if labels is not None:
        raise ValueError(f"--data.labels is for folders of videos; the shards in {path} carry their own labels")
    if not folder:
        files = LocalShards(shards)
        return ShardSource(files, files.sizes(), str(path), folder=path.parent)
    require_only_shards(path)
    return open_shards(path, shards)


def subset(source: Source, wanted: Sequence[bool] | np.ndarray) -> Source:
    """The samples of a source for which ``wanted`` is true, in the same shards; None of them is copied."""
    return _Subset(source, wanted)


def split_by_key(source: Source, holdout: float) -> tuple[Source | None, Source | None]:
    """Splits a source in two by its samples' keys, so that a video stays on its side when others are added.

    Args:
        source: the videos. Those without a label are all in the first part.
        holdout: expected share of the labelled ones in the second part.

    Returns:
        (training part, test part), None for a part with nothing in it.
    """
    held = np.fromiter(
        (s.label is not None and sample_id(s.key) % 10_000 < holdout * 10_000 for s in source.samples),
        dtype=bool,
        count=len(source.samples),
    )
    return (None if held.all() else subset(source, ~held)), (subset(source, held) if held.any() else None)


class _Subset:
    def __init__(self, source: Source, wanted: Sequence[bool] | np.ndarray):
        self._source = source
        self._rows = _Rows(np.asarray(wanted, dtype=bool), source.shard_sizes)
        self.shard_sizes = self._rows.counts
        self.samples = _Picked(source.samples, self._rows)
        self.description = f"{len(self._rows)} of {source.description}"

    def classes(self) -> list[str]:
        return sorted({sample.label for sample in self.samples if sample.label is not None})

    def stage(self, now: Sequence[int], then: Sequence[int]) -> None:
        self._source.stage(now, then)

    def size(self, index: int) -> int:
        return self._source.size(self._rows[index])

    def read(self, index: int) -> bytes:
        return self._source.read(self._rows[index])

    def origin(self, index: int) -> Origin:
        return origin_of(self._source, self._rows[index])


class _Picked(Sequence[Sample]):
    """Some of a source's samples."""

    def __init__(self, samples: Sequence[Sample], rows: "_Rows"):
        self._samples, self._rows = samples, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row):
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        return self._samples[self._rows[row]]


class _Rows:
    """Positions of what is wanted; a byte for each sample, so that ten million take ten megabytes."""

    def __init__(self, wanted: np.ndarray, shard_sizes: Sequence[int]):
        self._wanted, self._starts = wanted, np.concatenate([[0], np.cumsum(shard_sizes, dtype=np.int64)])
        before = np.concatenate([[0], np.cumsum(wanted, dtype=np.int64)])[self._starts]
        self.counts: list[int] = np.diff(before).tolist()
        self._ends = before[1:]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> int:
        if not -len(self) <= row < len(self):
            raise IndexError(f"sample {row} of {len(self)}")
        row %= len(self)
        shard = int(np.searchsorted(self._ends, row, side="right"))
        start = int(self._starts[shard])
        inside = np.flatnonzero(self._wanted[start : int(self._starts[shard + 1])])
        return start + int(inside[row - int(self._ends[shard]) + self.counts[shard]])
