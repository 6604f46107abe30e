"""The treatment of one video before it is written to a shard."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fastvid.data.pack.item import MISSING, Item
from fastvid.data.pack.pt_shards import PT_SUFFIX, Picture, read_pt_sample
from fastvid.data.shards.entry import probe_indexable
from fastvid.data.shards.picture_samples import PICTURES_SUFFIX
from fastvid.data.source import VIDEO_SUFFIXES
from fastvid.video import DecodeError, Limits, VideoMetadata
from fastvid.video.container import container_format
from fastvid.video.frame_table import decode_table
from fastvid.video.picture_archive import PICTURES
from fastvid.video.probe import with_table
from fastvid.video.transcode import Normalisation, transcode
from fastvid.video.verify import verified_metadata

_SUFFIXES = {"mov": ".mp4", "matroska": ".mkv", "avi": ".avi"}


@dataclass(frozen=True)
class Treatment:
    """The treatment of every video.

    Attributes:
        verify: decode every frame, reject what fails, and make a frame table that holds.
        normal: encode anew like this; None keeps the original bytes.
        picture: how the frames of ``.pt`` shards are stored.
    """

    verify: bool = True
    normal: Normalisation | None = None
    picture: Picture = "jpg"


@dataclass(frozen=True)
class PackTask:
    """A video to prepare.

    Attributes:
        item: the video.
        root: root of the collection.
        data: its bytes, where they came out of an archive.
        failed: known fault of it, or None.
        archive: position, in the collection, of the archive that the next task begins in.
        number: position, in that archive or in the collection, of the item that the next task begins with.
        position: position of the item in the collection, where it is in an archive.
    """

    item: Item
    root: Path
    data: bytes | None = None
    failed: "Reject | None" = None
    archive: int = 0
    number: int = 0
    position: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A video that can be packed: its bytes, what they hold, and the ending of its member's name. A text alone has no
    metadata.
    """

    data: bytes
    info: VideoMetadata | None
    suffix: str


@dataclass(frozen=True)
class Reject:
    """A video that cannot be used: a code for counting, such as those of :class:`DecodeError`, and what was found."""

    reason: str
    detail: str


def prepare(task: PackTask, treatment: Treatment) -> Prepared | Reject:
    """Read and probe a video, and decode or transcode it where the treatment says so."""
    if task.failed is not None:
        return task.failed
    if task.item.text_alone:
        return Prepared(b"", None, "")
    try:
        data = _read(task, treatment.picture)
        info = probe_indexable(data)
        suffix = PurePosixPath(task.item.member or task.item.path).suffix.lower()
        if info.codec == PICTURES:
            suffix = PICTURES_SUFFIX
        elif suffix not in VIDEO_SUFFIXES:
            suffix = _SUFFIXES[container_format(data)]
        still = info.codec == PICTURES and info.frames == 1  # kept as it is
        if treatment.normal is not None and info.codec == PICTURES and not still:
            raise DecodeError("unsupported", "its frames are pictures, which are packed as they are: no --transcode")
        if treatment.normal is not None and not still:
            data = _transcoded(data, info, treatment.normal)
            info, suffix = probe_indexable(data), ".mp4"
        elif treatment.verify:
            info = verified_metadata(data, info)
    except DecodeError as error:
        return Reject(error.reason, error.detail)
    return Prepared(data, info, suffix)


def _transcoded(data: bytes, info: VideoMetadata, normal: Normalisation) -> bytes:
    try:
        return transcode(data, normal, info=info)
    except DecodeError as error:
        if error.reason != "frame_count":
            raise
    # Its packets do not tell its frames: those are taken that decoding gives, one after the other.
    return transcode(data, normal, info=with_table(info, decode_table(data, Limits()), info.fps))


def _read(task: PackTask, picture: Picture) -> bytes:
    item = task.item
    if item.size == MISSING:
        raise DecodeError("read", "there is no such file")
    Limits().check(size=item.size)
    if task.data is not None:
        return task.data
    if item.member and item.path.lower().endswith(PT_SUFFIX):
        return read_pt_sample(task.root / item.path, item.member, picture)
    try:
        with (task.root / item.path).open("rb") as file:
            file.seek(item.offset)
            data = file.read(item.size)
            grown = not item.member and bool(file.read(1))
    except OSError as error:
        raise DecodeError("read", error.strerror or str(error)) from error
    if len(data) != item.size or grown:
        raise DecodeError("read", f"it no longer has the {item.size} bytes it had when it was listed")
    return data
