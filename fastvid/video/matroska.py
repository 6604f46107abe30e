"""The index of a Matroska or WebM file: offsets of its pictures.

The file is an EBML header and one Segment. Its Clusters hold the pictures, in blocks; what follows them is an index,
tags or padding. A live recording may leave the sizes of Segment and Clusters open.
"""

import re
from dataclasses import dataclass

EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT, _CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
_BLOCKS = (b"\xa3", b"\xa0")  # SimpleBlock, BlockGroup
_IN_CLUSTERS = (*_BLOCKS, b"\xe7", b"\xa7", b"\xab", b"\xbf", b"\x58\x54")  # and time, position, size, crc, silence
_AFTER_CLUSTERS = (  # Cues, Tags, Attachments, Chapters, SeekHead and padding
    b"\x1c\x53\xbb\x6b", b"\x12\x54\xc3\x67", b"\x19\x41\xa4\x69", b"\x10\x43\xa7\x70", b"\x11\x4d\x9b\x74", b"\xec",
)  # fmt: skip
_TAGGED_TIME = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


@dataclass(frozen=True)
class Extent:
    """The places at which the parts of a Segment end, whether or not they are there.

    Attributes:
        segment: the Segment; 0 where its size is not stated or what follows the pictures has begun.
        pictures: the last Cluster or block that has begun; 0 where there is none.
        open: whether the size of the Segment is not stated, so that Clusters may follow without a word.
    """

    segment: int = 0
    pictures: int = 0
    open: bool = False


def matroska_extent(data: bytes) -> Extent:
    """Return where the parts of a file end by its own account."""
    header, length = _size(data, 4)
    at = 4 + length + (header or 0)
    if header is None or data[at : at + 4] != _SEGMENT:
        return Extent()
    size, length = _size(data, at + 4)
    at += 4 + length
    stop = len(data) if size is None else at + size
    pictures = 0
    while at < min(stop, len(data)):
        name = _name(data, at)
        if pictures and name in _AFTER_CLUSTERS:
            return Extent(0, pictures, size is None)
        known = name in _IN_CLUSTERS if pictures else True
        inner, length = _size(data, at + len(name))
        if not name or not (known or name == _CLUSTER):
            break  # no element of a Segment
        start = at + len(name) + length
        if inner is None:
            if name != _CLUSTER:
                break  # cut off
            at, pictures = start, max(pictures, start)  # its blocks follow
            continue
        at = start + inner
        if name == _CLUSTER or (pictures and name in _BLOCKS):
            pictures = at
    return Extent(0 if size is None else stop, pictures, size is None)


def tagged_end(metadata: dict[str, str]) -> float | None:
    """Return when a stream ends, in seconds, from its tag DURATION, or None where it has none."""
    for name, value in metadata.items():
        if name.split("-")[0] == "DURATION" and (match := _TAGGED_TIME.match(value)):
            return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
    return None


def _name(data: bytes, at: int) -> bytes:
    """Read the identifier of an element, 1 to 4 bytes. It is empty where there is none."""
    length = 9 - data[at].bit_length()
    return data[at : at + length] if length <= 4 else b""


def _size(data: bytes, at: int) -> tuple[int | None, int]:
    """Read an EBML variable-length size. Return its value (None when unknown or cut off) and how many bytes it
    takes.
    """
    if at >= len(data) or data[at] == 0:
        return None, 1
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big") & ((1 << (7 * length)) - 1)
    return (None if value == (1 << (7 * length)) - 1 else value), length
