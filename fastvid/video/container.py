"""Container format and announced duration, from the first bytes of a file.

FFmpeg is told the container instead of guessing it, so that bytes which are really a playlist or a script for one of
its other demuxers are never followed. And it reads past the end of a cut file without complaint, so the length that
the container declares is read here.
"""

from collections.abc import Iterator

from fastvid.video.avi import avi_ends
from fastvid.video.errors import DecodeError
from fastvid.video.matroska import EBML, matroska_extent

# First boxes of ISO base media files in the wild; QuickTime files may start with any of them.
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_PROJECTION_ID = b"\x76\x70"
# First five numbers of a track's matrix, 16.16 fixed point, when it neither turns nor mirrors.
_IDENTITY = b"\0\1\0\0" + bytes(12) + b"\0\1\0\0"


def container_format(data: bytes) -> str:
    """Return the FFmpeg demuxer for these bytes: ``"mov"``, ``"matroska"`` or ``"avi"``.

    Raises:
        DecodeError: ``container``, for anything else.
    """
    if data[4:8] in _ISO_BOXES:
        return "mov"
    if data[:4] == EBML:
        return "matroska"
    if data[:4] == b"RIFF" and data[8:11] == b"AVI":
        return "avi"
    if not data:
        raise DecodeError("container", "the file is empty")
    raise DecodeError("container", f"not an mp4, mov, mkv, webm or avi file (it starts with {data[:12]!r})")


def missing_bytes(data: bytes) -> int:
    """Return how many bytes lie beyond the end of the data by the container's own account; 0 when none do.

    Only the parts that hold pictures or say where they lie count: a wrong size of the file as a whole, or bytes behind
    the last part, hide nothing from a decoder.
    """
    ends = {"mov": _iso_ends, "matroska": _matroska_ends, "avi": avi_ends}[container_format(data)](data)
    return max(0, max(ends, default=0) - len(data))


def is_fragmented(data: bytes) -> bool:
    """Return whether an mp4 or mov lists its frames piece by piece (``moof``) and not in one place."""
    return container_format(data) == "mov" and any(name == b"moof" for name, _, _ in _iso_boxes(data))


def stated_fragments(data: bytes) -> float:
    """Return how many seconds the header of a fragmented mp4 announces for all fragments; 0 where it announces none."""
    for name, start, end in _iso_boxes(data):
        movie, fragments = (data.find(box, start, end) if name == b"moov" else -1 for box in (b"mvhd", b"mehd"))
        if movie >= 0 and fragments >= 0:
            at = movie + 8 + (16 if data[movie + 4] == 1 else 8)  # after two times, of 8 bytes each in version 1
            wide = 8 if data[fragments + 4] == 1 else 4
            length = int.from_bytes(data[fragments + 8 : fragments + 8 + wide], "big")
            return length / (int.from_bytes(data[at : at + 4], "big") or 1)
    return 0.0


def may_be_rotated(data: bytes) -> bool:
    """Return whether the header could ask for a rotation. False is certain; True needs a look at a decoded frame."""
    container = container_format(data)
    if container == "avi":
        return False
    if container == "matroska":
        return _PROJECTION_ID in data[: 64 << 10]
    for name, start, end in _iso_boxes(data):
        if name != b"moov":
            continue
        at = data.find(b"tkhd", start, end)
        while at >= 0:
            matrix = at + 4 + (52 if data[at + 4] == 1 else 40)  # after the times and the layer, of version 1 or 0
            if data[matrix : matrix + 20] != _IDENTITY:
                return True
            at = data.find(b"tkhd", at + 4, end)
    return False


def has_several_edits(data: bytes) -> bool:
    """Return whether some track of an mp4 or mov shows several pieces of itself, which its edit list puts together."""
    if container_format(data) != "mov":
        return False
    for name, start, end in _iso_boxes(data):
        if name != b"moov":
            continue
        at = data.find(b"elst", start, end)
        while at >= 0:
            wide = data[at + 4] == 1  # version 1 has 64-bit times
            count, entry, time = int.from_bytes(data[at + 8 : at + 12], "big"), 20 if wide else 12, 8 if wide else 4
            first = at + 12 + time
            starts = [data[first + k * entry :][:time] for k in range(min(count, (end - first) // entry + 1))]
            if sum(start != b"\xff" * time for start in starts) > 1:  # -1 is a pause, not a piece
                return True
            at = data.find(b"elst", at + 4, end)
    return False


def _iso_boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the top-level boxes: name, start and declared end (which may lie beyond the data)."""
    offset = 0
    while offset + 8 <= len(data):
        size, name = int.from_bytes(data[offset : offset + 4], "big"), data[offset + 4 : offset + 8]
        if size == 1:  # a 64-bit size follows
            size = int.from_bytes(data[offset + 8 : offset + 16], "big")
        if size == 0:  # runs to the end
            size = len(data) - offset
        if size < 8 or not name.isascii():
            return  # trailing bytes, not a box
        yield name, offset, offset + size
        offset += size


def _iso_ends(data: bytes) -> list[int]:
    return [end for name, _, end in _iso_boxes(data) if name in (b"moov", b"mdat", b"moof")]


def _matroska_ends(data: bytes) -> list[int]:
    extent = matroska_extent(data)
    return [extent.segment, extent.pictures]
