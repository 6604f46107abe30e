"""The index beside a tar shard: where each video lies, how it is timed, and how to tell that it is still the same.

``train-000000.tar`` has ``train-000000.index.jsonl``: a header line, then one line per sample. With it a sample is one
read of known size and needs no probing; the tar itself stays an ordinary WebDataset shard.
"""

import contextlib
import json
import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fastvid.data.shards.entry import Entry, Place, kind_of_line, probe_indexable
from fastvid.data.shards.tar_reader import Member
from fastvid.data.shards.tar_samples import TarSample, scan_tar
from fastvid.data.source import Kind
from fastvid.files import write_whole
from fastvid.video import DecodeError, Limits
from fastvid.video.picture_archive import PICTURES, open_pictures

log = logging.getLogger(__name__)

VERSION = 3
_READABLE = (2, VERSION)  # frame tables of version 2 took any timestamp for a presentation time
_LONGEST_HEADER = 4096


@dataclass(frozen=True)
class Header:
    """First line of an index.

    Attributes:
        shard: file name of the tar.
        bytes: size of the tar.
        samples: lines that follow.
        crc32: CRC-32 of those lines.
        version: version of the index.
    """

    shard: str
    bytes: int
    samples: int
    crc32: int
    version: int = VERSION


class ShardIndex(Sequence[Entry]):
    """The samples of one shard; lines are read into an :class:`Entry` when it is asked for.

    Args:
        data: an index file's content.
        where: its name, for messages.

    Raises:
        ValueError: damaged, or of another version.
    """

    def __init__(self, data: bytes, where: str):
        first, _, body = data.partition(b"\n")
        self.header = parse_header(first, where)
        self._lines = body.split(b"\n")[:-1]
        self._where = where
        if len(self._lines) != self.header.samples or zlib.crc32(body) != self.header.crc32:
            raise ValueError(f"{where} is damaged: {_REMEDY}")

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def has_tables(self) -> bool:
        """Return whether training can use its frame tables; those of an older version are made anew at each read."""
        return self.header.version == VERSION

    def kinds(self) -> list[Kind]:
        """Return what each sample is. Of its line no more is read than that takes."""
        try:
            return [kind_of_line(line) for line in self._lines]
        except ValueError as error:
            raise ValueError(f"{self._where}: {error}; {_REMEDY}") from error

    def __getitem__(self, row):
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        try:
            entry = Entry.from_line(self._lines[row])
        except ValueError as error:
            raise ValueError(f"{self._where}, sample {row}: {error}; {_REMEDY}") from error
        if max(place.offset + place.size for place in entry.places) > self.header.bytes:
            raise ValueError(f"{self._where}, sample {row}: lies beyond the end of the shard; {_REMEDY}")
        return entry


_REMEDY = "delete it and run `python -m fastvid.data index` on the folder"


def index_path(shard: Path) -> Path:
    """Return where the index of a shard is kept."""
    return shard.with_name(index_name(shard.name))


def index_name(shard: str) -> str:
    """Return the file name of a shard's index."""
    return shard.removesuffix(".tar") + ".index.jsonl"


def parse_header(line: bytes, where: str) -> Header:
    """Parse the header line of an index; raise ValueError where it is not a header of this version."""
    try:
        fields = json.loads(line)
        if fields["version"] in _READABLE:
            header = Header(**fields)
            if isinstance(header.shard, str) and all(
                type(x) is int and x >= 0 for x in (header.bytes, header.samples, header.crc32)
            ):
                return header
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass  # said below, with the file's name
    raise ValueError(f"{where} is damaged, or was written by another version: {_REMEDY}")


def read_header(shard: Path) -> Header | None:
    """Read the header of a shard's index. Return None when there is none, or when the tar has changed its name or size
    since.

    Raises:
        ValueError: the index is damaged.
    """
    path = index_path(shard)
    try:
        with path.open("rb") as file:
            header = parse_header(file.readline(_LONGEST_HEADER), str(path))
    except FileNotFoundError:
        return None
    return header if (header.shard, header.bytes) == (shard.name, shard.stat().st_size) else None


def load_index(shard: Path) -> ShardIndex:
    """Read the index of a shard; build it, and store it where that is possible, if there is none that fits.

    Raises:
        ValueError: the index is damaged, or the tar is.
    """
    if read_header(shard) is not None:
        path = index_path(shard)
        return ShardIndex(path.read_bytes(), str(path))
    content = index_bytes(shard.name, shard.stat().st_size, build_index(shard, log.warning))
    save_index(shard, content)
    return ShardIndex(content, str(index_path(shard)))


def index_bytes(shard: str, size: int, entries: Sequence[Entry]) -> bytes:
    """Return the content of the index of a tar of ``size`` bytes."""
    body = b"".join(entry.to_line() + b"\n" for entry in entries)
    header = {"version": VERSION, "shard": shard, "bytes": size, "samples": len(entries), "crc32": zlib.crc32(body)}
    return json.dumps(header).encode() + b"\n" + body


def save_index(shard: Path, content: bytes) -> bool:
    """Write an index beside its shard, complete or not at all; False in a folder that cannot be written to."""
    try:
        write_whole(index_path(shard), content, sync=False)
    except OSError:
        return False  # a read-only shard folder: the index is built anew each time
    return True


def build_index(
    shard: Path, refused: Callable[[str], None] = lambda sentence: None, video: str | None = None
) -> list[Entry]:
    """Read a tar once, with memory for its longest video that is within the limits.

    Args and errors are those of :func:`scan_tar`.
    """
    samples = scan_tar(shard, refused, video)
    with shard.open("rb") as file:
        return [_entry(file, sample) for sample in samples]


def _entry(file: BinaryIO, sample: TarSample) -> Entry:
    """Make the entry of a video. A video that cannot be read is listed too, so that training finds it, names it and
    counts it.
    """
    info, crc, video = None, 0, sample.member
    pictures: tuple[Place, ...] = ()
    latents = None if sample.latents is None else _place_of(file, sample.latents)
    file.seek(video.offset)
    if sample.text_alone:
        crc = zlib.crc32(file.read(video.size))
    elif video.size <= Limits().bytes:
        data = file.read(video.size)
        crc = zlib.crc32(data)
        with contextlib.suppress(DecodeError):
            info = probe_indexable(data)
            if info.codec == PICTURES:
                archive = open_pictures(data)
                rows = zip(archive.offsets, archive.pictures, strict=True)
                pictures = tuple(Place(video.offset + at, len(c), zlib.crc32(c)) for at, (_, c) in rows)
    else:
        for start in range(0, video.size, 1 << 20):
            crc = zlib.crc32(file.read(min(1 << 20, video.size - start)), crc)
    return Entry(
        sample.key, video.offset, video.size, crc, info, sample.label, sample.caption, sample.fields,
        sample.text_alone, latents, pictures,
    )  # fmt: skip


def _place_of(file: BinaryIO, member: Member) -> Place:
    file.seek(member.offset)
    return Place(member.offset, member.size, zlib.crc32(file.read(member.size)))
