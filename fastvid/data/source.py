"""The interface through which loaders read videos: Source and Sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from fastvid.video import DecodeError, Limits, VideoMetadata, probe

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

Kind = Literal["video", "image", "text"]
"""Kinds of samples: a video; a still image, which is a video of one picture; a text without either."""

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Sample:
    """One video of a source.

    Attributes:
        key: stable name, unique in the source; masks, views and caches are keyed by it.
        label: its class, or None.
        caption: description of the video in words, or None.
        video: its metadata and frame table, where that is indexed.
        described: whether more is written about it than label and caption, see :func:`fields_of`.
        kind: what it is.
    """

    key: str
    label: str | None = None
    caption: str | None = None
    video: VideoMetadata | None = None
    described: bool = False
    kind: Kind = "video"


class Source(Protocol):
    """A collection of videos that can be read in any order."""

    @property
    def samples(self) -> Sequence[Sample]:
        """Return the videos, in the source's order."""
        ...

    @property
    def shard_sizes(self) -> Sequence[int]:
        """Return the sizes of the units, in order, whose samples are cheap to read together."""
        ...

    @property
    def description(self) -> str:
        """Return a description for logs and reports."""
        ...

    def classes(self) -> list[str]:
        """Return the labels that occur, sorted: a class id is a position in this list."""
        ...

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        """Announce the shards that are about to be read, and those after them. A streaming source fetches these and
        may drop all others. Reading from another shard stays possible.
        """
        ...

    def size(self, index: int) -> int:
        """Return the number of bytes of ``samples[index]``, without reading it.

        Raises:
            DecodeError: ``read``.
        """
        ...

    def read(self, index: int) -> bytes:
        """Return the whole file of ``samples[index]``.

        Raises:
            DecodeError: ``read`` or ``checksum``.
        """
        ...


@dataclass(frozen=True)
class Origin:
    """The origin of a sample, below all subsets and joins.

    Attributes:
        name: path of the video without its ending, the same in a folder and in shards, however these are cut.
        size: bytes, where an index has it.
        crc32: CRC-32 of its bytes, likewise.
        folder: the local folder that was opened, or None.
        listed: name of the table or list that the labels were read from; None where they are the folders' names.
        part: part of the split that this list names: 0 for training, 1 for validation, 2 for test; None for none.
        unlisted: whether this list does not name the video.
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
    """A source that knows the origin of its samples."""

    def origin(self, index: int) -> Origin:
        """Return where ``samples[index]`` comes from."""
        ...


def origin_of(source: Source, index: int) -> Origin:
    """Return where ``samples[index]`` comes from. For a source that does not say, the key is the name."""
    return source.origin(index) if isinstance(source, Traceable) else Origin(source.samples[index].key)


@runtime_checkable
class Described(Protocol):
    """A source that knows more of its samples than label and caption, such as conversations about them."""

    def fields(self, index: int) -> dict[str, Any]:
        """Read what is written about ``samples[index]``: the fields of the ``.json`` beside it. Nothing is kept.

        Raises:
            DecodeError: ``read``, ``checksum`` or ``text``.
        """
        ...


def fields_of(source: Source, index: int) -> dict[str, Any]:
    """Return what is written about ``samples[index]``, empty for a source that does not say.

    Raises:
        DecodeError: it cannot be read.
    """
    return source.fields(index) if isinstance(source, Described) else {}


@runtime_checkable
class HasLatents(Protocol):
    """A source that may have stored what a frozen model saw in the frames of its videos."""

    def latents(self, index: int) -> bytes | None:
        """Read the file ``.latents.npy`` of ``samples[index]``; None where there is none.

        Raises:
            DecodeError: ``read`` or ``checksum``.
        """
        ...


def latents_of(source: Source, index: int) -> bytes | None:
    """Return the file of a sample's stored latents; None where there are none.

    Raises:
        DecodeError: it cannot be read.
    """
    return source.latents(index) if isinstance(source, HasLatents) else None


@runtime_checkable
class HasFrames(Protocol):
    """A source some of whose videos are single pictures, of which a few can be read without the others."""

    def frames(self, index: int, numbers: Sequence[int]) -> bytes | None:
        """Read some frames of ``samples[index]``, as :func:`fastvid.video.picture_archive.some_frames`; None for a
        video that is one file.

        Raises:
            DecodeError: ``read`` or ``checksum``.
        """
        ...


def frames_of(source: Source, index: int, numbers: Sequence[int]) -> bytes | None:
    """Return some frames of a video of pictures, without reading the others; None where the whole file has to be read.

    Raises:
        DecodeError: they cannot be read.
    """
    return source.frames(index, numbers) if isinstance(source, HasFrames) else None


@runtime_checkable
class KnowsKinds(Protocol):
    """A source that tells the kinds of all samples at once, without making each."""

    def kinds(self) -> np.ndarray:
        """Return int8 [samples], positions in :data:`KINDS`."""
        ...


def kinds_of(source: Source) -> np.ndarray:
    """Return the kinds of all samples of a source, int8 [samples], positions in :data:`KINDS`."""
    if isinstance(source, KnowsKinds):
        return source.kinds()
    return np.fromiter((KINDS.index(sample.kind) for sample in source.samples), np.int8, len(source.samples))


def read_video(source: Source, index: int, limits: Limits) -> tuple[bytes, VideoMetadata]:
    """Read one video of a source, and its frame table from the index where there is one; a file over the limit is
    refused before a byte of it is read.

    Raises:
        DecodeError: it cannot be used, or is not what was indexed.
    """
    if source.samples[index].kind == "text":
        raise DecodeError("no_video", "it is a text without a video")
    limits.check(size=source.size(index))
    data, info = source.read(index), source.samples[index].video
    if info is None:
        return data, probe(data, limits)
    limits.check(width=info.width, height=info.height, frames=info.frames, seconds=info.duration)
    return data, info


def classes_of(source: Source) -> list[str]:
    """Return the labels that occur, sorted: a class id is a position in this list."""
    return source.classes()
