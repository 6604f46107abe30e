"""What the first bytes of a file say: which container it is, and how long it claims to be.

FFmpeg is told the container instead of guessing it, so that bytes which are really a playlist or a script for one of
its other demuxers are never followed. And it reads past the end of a cut file without complaint, so the length that
the container declares is read here.
"""

from collections.abc import Iterator

from fastvid.video.errors import DecodeError

# First boxes of ISO base media files in the wild; QuickTime files may start with any of them.
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_EBML_MAGIC = b"\x1a\x45\xdf\xa3"
_SEGMENT_ID = b"\x18\x53\x80\x67"
_CLUSTER_ID, _VOID_ID = b"\x1f\x43\xb6\x75", b"\xec"
_AFTER_CLUSTERS = (  # Cues, Tags, Attachments, Chapters and SeekHead
    b"\x1c\x53\xbb\x6b", b"\x12\x54\xc3\x67", b"\x19\x41\xa4\x69", b"\x10\x43\xa7\x70", b"\x11\x4d\x9b\x74",
)  # fmt: skip
_PROJECTION_ID = b"\x76\x70"
# First five numbers of a track's matrix, 16.16 fixed point, when it neither turns nor mirrors.
_IDENTITY = b"\0\1\0\0" + bytes(12) + b"\0\1\0\0"


def container_format(data: bytes) -> str:
    """The FFmpeg demuxer for these bytes: ``"mov"``, ``"matroska"`` or ``"avi"``.

    Raises:
        DecodeError: ``container``, for anything else.
    """
    if data[4:8] in _ISO_BOXES:
        return "mov"
    if data[:4] == _EBML_MAGIC:
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
    container = container_format(data)
    ends = {"mov": _iso_ends, "matroska": _matroska_ends, "avi": _avi_ends}[container](data)
    return max(0, max(ends, default=0) - len(data))


def is_fragmented(data: bytes) -> bool:
    """Return whether an mp4 or mov lists its frames piece by piece (``moof``) and not in one place."""
    return container_format(data) == "mov" and any(name == b"moof" for name, _, _ in _iso_boxes(data))


def may_be_rotated(data: bytes) -> bool:
    """Whether the header could ask for a rotation; False is certain, True wants a look at a decoded frame."""
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
    """Whether some track of an mp4 or mov shows several pieces of itself, which its edit list puts together."""
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
    """The top-level boxes: name, start and declared end (which may lie beyond the data)."""
    offset = 0
    while offset + 8 <= len(data):
        size, name = int.from_bytes(data[offset : offset + 4], "big"), data[offset + 4 : offset + 8]
        if size == 1:  # a 64-bit size follows
            size = int.from_bytes(data[offset + 8 : offset + 16], "big")
        if size == 0:  # runs to the end
            size = len(data) - offset
        if size < 8 or not name.isascii():
            return  # trailing bytes that are no box
        yield name, offset, offset + size
        offset += size


def _iso_ends(data: bytes) -> list[int]:
    return [end for name, _, end in _iso_boxes(data) if name in (b"moov", b"mdat", b"moof")]


def _avi_ends(data: bytes) -> list[int]:
    """Ends of the header and picture lists. The size of the RIFF form around them is often wrong and never needed."""
    ends: list[int] = []
    offset, pictures = 0, False
    while offset + 12 <= len(data):
        name, kind = data[offset : offset + 4], data[offset + 8 : offset + 12]
        size = int.from_bytes(data[offset + 4 : offset + 8], "little")
        if name == b"RIFF" and kind in (b"AVI ", b"AVIX", b"AVI\x19"):
            offset, pictures = offset + 12, False  # its parts follow
            continue
        if name == b"LIST" and kind == b"movi":
            if size in (0, 0xFFFFFFFF):  # a recording that was never finished: how long it is, only reading it tells
                return ends
            pictures = True
        elif not name.isascii():
            return ends  # trailing bytes that are no chunk
        if name == b"LIST" or not pictures:  # what comes after the pictures is an index, and they are found without
            ends.append(offset + 8 + size)
        offset += 8 + size + size % 2
    return ends


def _matroska_ends(data: bytes) -> list[int]:
    # An EBML header element, then one Segment that holds everything; its size may be unknown (live recordings).
    offset = 4
    header, length = _vint(data, offset)
    if header is None:
        return []
    offset += length + header
    if data[offset : offset + 4] != _SEGMENT_ID:
        return []
    segment, length = _vint(data, offset + 4)
    if segment is None:
        return []
    offset += 4 + length
    end = offset + segment
    # Only clusters hold pictures: what follows the last of them is an index, tags or padding.
    pictures = False
    while offset < len(data):
        name = data[offset : offset + 4]
        if pictures and (name in _AFTER_CLUSTERS or name[:1] == _VOID_ID):
            return []
        identifier = 1 if name[:1] == _VOID_ID else 4
        size, length = _vint(data, offset + identifier)
        if size is None:
            break
        pictures = pictures or name == _CLUSTER_ID
        offset += identifier + length + size
    return [end]


def _vint(data: bytes, offset: int) -> tuple[int | None, int]:
    """An EBML variable-length size: its value (None when unknown or cut off) and how many bytes it takes."""
    if offset >= len(data) or data[offset] == 0:
        return None, 1
    length = 9 - data[offset].bit_length()
    raw = int.from_bytes(data[offset : offset + length], "big")
    value = raw & ((1 << (7 * length)) - 1)
    return (None if value == (1 << (7 * length)) - 1 else value), length
