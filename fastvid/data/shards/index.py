"""The index beside a tar shard: where each video lies, how it is timed, and how to tell that it is still the same.

``train-000000.tar`` has ``train-000000.index.jsonl``: a header line, then one line per sample. With it a sample is one
read of known size and needs no probing; the tar itself stays an ordinary WebDataset shard.
"""

import contextlib
import json
import logging
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fastvid.data.shards.entry import Entry, Place, probe_indexable
from fastvid.data.shards.picture_samples import picture_samples
from fastvid.data.shards.tar_reader import Member, tar_members
from fastvid.data.shards.video_choice import counted_names, several_videos
from fastvid.data.source import VIDEO_SUFFIXES
from fastvid.data.walk import such_as
from fastvid.files import write_whole
from fastvid.video import DecodeError, Limits

log = logging.getLogger(__name__)

VERSION = 3
_READABLE = (2, VERSION)  # frame tables of version 2 took any timestamp for a presentation time
_LONGEST_HEADER = 4096
_LONGEST_TEXT = 16 << 20
_TEXTS = (".json", ".cls", ".txt")


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

    def __getitem__(self, row):
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        try:
            entry = Entry.from_line(self._lines[row])
        except ValueError as error:
            raise ValueError(f"{self._where}, sample {row}: {error}; {_REMEDY}") from error
        if max(place.offset + place.size for place in (entry, entry.fields or entry)) > self.header.bytes:
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


@dataclass(frozen=True)
class TarSample:
    """A video in a tar, before it is looked at.

    Attributes:
        key: the members' common name.
        member: the video.
        label: from the members beside it, or None.
        caption: likewise.
        extra: further fields of its ``.json``.
        fields: where this ``.json`` lies; None without further fields.
    """

    key: str
    member: Member
    label: str | None
    caption: str | None
    extra: dict[str, Any]
    fields: Place | None = None


def scan_tar(shard: Path, refused: Callable[[str], None], video: str | None = None) -> list[TarSample]:
    """List the videos of a tar, in order. Members that belong to no video are skipped.

    Members with the same name up to its first dot are one sample, as in WebDataset: ``0.left.mp4`` and ``0.json`` are
    two members of the sample ``0``. A video's label and caption are those of ``0.left.json`` and so on, or else of
    ``0.json``.

    Args:
        shard: the tar.
        refused: called with a sentence for each member that is not accepted, see
            :func:`fastvid.data.shards.tar_reader.tar_members`.
        video: suffix of the video to take from each sample, such as ``"left.mp4"``; samples without it are passed over.
            Needed only where samples have several.

    Raises:
        ValueError: not a readable tar, a key twice, a sample with several videos, or a label that cannot be read.
    """
    wanted = None if video is None else f".{video.lower().removeprefix('.')}"
    groups: dict[str, dict[str, Member]] = {}
    with shard.open("rb") as file:
        for member in tar_members(file, str(shard), os.fstat(file.fileno()).st_size, refused):
            folder, _, name = member.name.rpartition("/")
            stem, dot, suffix = name.partition(".")
            if not dot or not stem:
                continue
            key, suffix = f"{folder}/{stem}" if folder else stem, f".{suffix.lower()}"
            members = groups.setdefault(key, {})
            if suffix in members:
                raise ValueError(f"{shard} holds {member.name} twice: keys must be unique in a shard")
            members[suffix] = member
        videos = {key: [s for s in members if s.endswith(VIDEO_SUFFIXES)] for key, members in groups.items()}
        pictures = {} if wanted is not None else picture_samples(groups, videos, shard)
        if wanted is None and any(len(suffixes) > 1 for suffixes in videos.values()):
            raise ValueError(several_videos(shard, videos, groups))
        samples, silent = [], []
        for key, members in groups.items():
            chosen = next((s for s in videos[key] if wanted in (None, s)), None)
            video_member = pictures.get(key) if chosen is None else members[chosen]
            if video_member is None:
                silent += [key] if ".json" in members and not videos[key] else []
                continue
            where, stem = f"{shard}: {key}", "" if chosen is None else chosen[: chosen.rindex(".")]
            beside = {s: found for s in _TEXTS if (found := members.get(stem + s) or members.get(s)) is not None}
            texts = {s: _text_of(file, m, where) for s, m in beside.items()}
            label, caption, extra = _parse_texts(texts, where)
            json_, place = beside.get(".json"), None
            if json_ is not None and extra:
                place = Place(json_.offset, json_.size, zlib.crc32(texts[".json"]))
            samples.append(TarSample(key, video_member, label, caption, extra, place))
    if silent:
        refused(
            f"{shard}: samples with a .json and neither a video nor pictures are passed over: {len(silent)} "
            f"({such_as(silent)})"
        )
    without = [suffixes for suffixes in videos.values() if suffixes and wanted not in (None, *suffixes)]
    if without:
        refused(
            f"{shard}: {len(without)} of {sum(map(bool, videos.values()))} samples have videos, and none that is named "
            f"KEY{wanted} (they have {counted_names(without)}): passed over"
        )
    return samples


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
    file.seek(video.offset)
    if video.size <= Limits().bytes:
        data = file.read(video.size)
        crc = zlib.crc32(data)
        with contextlib.suppress(DecodeError):
            info = probe_indexable(data)
    else:
        for start in range(0, video.size, 1 << 20):
            crc = zlib.crc32(file.read(min(1 << 20, video.size - start)), crc)
    return Entry(sample.key, video.offset, video.size, crc, info, sample.label, sample.caption, sample.fields)


def _text_of(file: BinaryIO, member: Member, where: str) -> bytes:
    if member.size > _LONGEST_TEXT:
        raise ValueError(f"{where}: the text beside the video has {member.size} bytes; the limit is {_LONGEST_TEXT}")
    file.seek(member.offset)
    return file.read(member.size)


def _parse_texts(texts: dict[str, bytes], where: str) -> tuple[str | None, str | None, dict[str, Any]]:
    """Return the label, the caption and the other fields from the members beside a video.

    Args:
        texts: content of the members ``.json``, ``.cls`` and ``.txt``, of those there are.
        where: for messages.

    Raises:
        ValueError: one of them cannot be read.
    """
    try:
        fields = json.loads(texts.get(".json", b"{}"))
        fields = fields if isinstance(fields, dict) else {}
        label, caption = fields.pop("label", None), fields.pop("caption", None)
        if label is None and ".cls" in texts:
            label = texts[".cls"].decode().strip()
        if caption is None and ".txt" in texts:
            caption = texts[".txt"].decode().strip()
    except (ValueError, RecursionError) as error:  # bad JSON, or bytes that are no UTF-8
        raise ValueError(f"{where}: the text beside the video cannot be read: {error}") from error
    return (None if label is None else str(label)), (None if caption is None else str(caption)), fields
