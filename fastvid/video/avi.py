"""The index of an AVI file: offsets of its pictures, and how many it announces.

A large file has several parts (OpenDML): each a RIFF form with a list of pictures, and the header lists the parts.
"""

import struct
from collections.abc import Iterator

_FORMS = (b"AVI ", b"AVIX", b"AVI\x19")
_UNKNOWN = (0, 0xFFFFFFFF)  # size of the list of pictures in a recording that was never finished
_PLACEHOLDER = 1 << 30  # a number of frames from which on it stands for "not known", as in what FFmpeg writes to a pipe
_SUPER_INDEX = struct.Struct("<HBBI4s12x")  # longs per entry, sub-type, type, entries, which chunks they index
_SUPER_INDEX_ENTRY = struct.Struct("<QII")  # offset in the file, size, duration


def avi_ends(data: bytes) -> list[int]:
    """Return where the header, the lists of pictures and the indexes of the parts end, whether or not they are there.

    The size of the RIFF form around them is often wrong and never needed.
    """
    ends: list[int] = []
    pictures = False
    for name, kind, start, end in _lists(data):
        if kind == b"RIFF":
            pictures = False
        elif kind == b"movi":
            if end is None:  # how long it is, only reading it tells
                return ends
            pictures = True
            ends.append(end)
        elif name == b"LIST" or not pictures:  # what comes after the pictures is an index: they are found without it
            ends.append(end or start)
            if kind == b"hdrl":
                ends += _parts(data, start, end or start)
    return ends


def stated_frames(data: bytes) -> int:
    """Return how many frames the OpenDML header announces for all parts together; 0 where it announces none."""
    at = data.find(b"dmlh", 0, _header_end(data))
    listed = at >= 12 and data[at - 12 : at - 8] == b"LIST"  # else it is a place that was kept free for it
    count = int.from_bytes(data[at + 8 : at + 12], "little") if listed else 0
    return count if is_count(count) else 0


def is_count(frames: int) -> bool:
    """Return whether a number in a header is a real count of frames, and not a placeholder."""
    return 0 < frames < _PLACEHOLDER


def picture_chunks(data: bytes, stream: int) -> int:
    """Count the complete chunks of a video stream. An empty one repeats the frame before it.

    Args:
        data: the whole file.
        stream: number of the video stream among all streams.
    """
    names = (f"{stream:02d}dc".encode(), f"{stream:02d}db".encode())
    return sum(
        name in names and end <= len(data)
        for _, kind, start, stop in _lists(data)
        if kind == b"movi"
        for name, end in _chunks(data, start, min(stop or len(data), len(data)))
    )


def _lists(data: bytes) -> Iterator[tuple[bytes, bytes, int, int | None]]:
    """Yield list and chunks of all parts: name, kind (b"RIFF" for a form), where the content starts and where it
    ends.
    """
    offset = 0
    while offset + 12 <= len(data):
        name, kind = data[offset : offset + 4], data[offset + 8 : offset + 12]
        size = int.from_bytes(data[offset + 4 : offset + 8], "little")
        if name == b"RIFF" and kind in _FORMS:
            yield name, b"RIFF", offset + 12, None
            offset += 12  # its parts follow
            continue
        if not name.isascii():
            return  # trailing bytes, not a chunk
        if name == b"LIST" and kind == b"movi" and size in _UNKNOWN:
            yield name, kind, offset + 12, None
            return
        yield name, kind if name == b"LIST" else b"", offset + 12, offset + 8 + size
        offset += 8 + size + size % 2


def _chunks(data: bytes, offset: int, stop: int) -> Iterator[tuple[bytes, int]]:
    """Yield name and end of each chunk in a list of pictures, including those in groups (``rec``)."""
    while offset + 8 <= stop:
        name, size = data[offset : offset + 4], int.from_bytes(data[offset + 4 : offset + 8], "little")
        if name == b"LIST" and data[offset + 8 : offset + 12] == b"rec ":
            offset += 12
            continue
        yield name, offset + 8 + size
        offset += 8 + size + size % 2


def _header_end(data: bytes) -> int:
    return next((end or 0 for _, kind, _, end in _lists(data) if kind == b"hdrl"), 0)


def _parts(data: bytes, start: int, end: int) -> list[int]:
    """Return where the pieces of the pictures' index end, one in each part, as the header lists them."""
    ends: list[int] = []
    at = data.find(b"indx", start, end)
    while at >= 0:
        entry = at + 8 + _SUPER_INDEX.size
        if entry <= len(data):
            longs, _, kind, count, chunk = _SUPER_INDEX.unpack_from(data, at + 8)
            if (longs, kind, chunk[2:]) in ((4, 0, b"dc"), (4, 0, b"db")):
                count = min(count, (min(end, len(data)) - entry) // _SUPER_INDEX_ENTRY.size)
                entries = (_SUPER_INDEX_ENTRY.unpack_from(data, entry + 16 * k) for k in range(count))
                ends += [offset + size for offset, size, _ in entries if offset]
        at = data.find(b"indx", at + 4, end)
    return ends
