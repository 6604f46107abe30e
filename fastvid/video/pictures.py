"""Properties of a coded picture from its packet: whether it is a keyframe, and whether it is shown in order."""

from collections.abc import Iterator
from typing import Literal

_START = b"\0\0\1"
_VOP = b"\0\0\1\xb6"  # start code of a picture in MPEG-4 part 2
_SMALLEST_VOP = 16  # bytes; a shorter picture may be one that says "as before" and gives no frame
_PICTURE = b"\0\0\1\0"  # start code of a picture in MPEG-1 and MPEG-2
_EXTENSION = b"\0\0\1\xb5"  # of MPEG-2; that of a picture has number 8
_KINDS: dict[int, Literal["intra", "forward"]] = {1: "intra", 2: "forward"}  # MPEG-1 and MPEG-2; 3 is a B-frame
_IDR = {"h264": (5, 5), "hevc": (19, 20)}  # types of slices of a picture before which everything has been shown
_SLICES = {"h264": (1, 5), "hevc": (0, 31)}


def picture_kind(codec: str, extradata: bytes, packet: bytes) -> Literal["intra", "forward"] | None:
    """Return what the headers in a packet prove about its picture.

    Args:
        codec: FFmpeg's name of it.
        extradata: the stream's, which tells how H.264 and HEVC are packed.
        packet: the packet's data.

    Returns:
        ``"intra"``: the packet holds one picture, which is decoded by itself and shown after all before it;
        ``"forward"``: one picture, which is no B-frame; None: neither is certain.
    """
    if codec in ("h264", "hevc"):
        return "intra" if _is_one_idr(codec, extradata, packet) else None
    if codec == "mpeg4":
        return _vop_kind(packet)
    if codec in ("vp8", "vp9"):
        return "intra" if packet and _is_shown_key_of_vp(codec, packet) else None
    return _mpeg_kind(packet) if codec in ("mpeg1video", "mpeg2video") else None


def _vop_kind(packet: bytes) -> Literal["intra", "forward"] | None:
    at = packet.find(_VOP)
    if at < 0 or len(packet) - at < _SMALLEST_VOP or packet.find(_VOP, at + 4) >= 0:
        return None
    kind = packet[at + 4] >> 6
    return None if kind == 2 else "intra" if kind == 0 else "forward"


def _mpeg_kind(packet: bytes) -> Literal["intra", "forward"] | None:
    at = packet.find(_PICTURE)
    if at < 0 or packet.find(_PICTURE, at + 4) >= 0 or at + 6 > len(packet):
        return None  # none, or two fields, or cut off
    extension = packet.find(_EXTENSION, at + 4)
    while extension >= 0 and packet[extension + 4 : extension + 5] and packet[extension + 4] >> 4 != 8:
        extension = packet.find(_EXTENSION, extension + 4)
    if extension >= 0 and (extension + 6 >= len(packet) or packet[extension + 6] & 3 != 3):
        return None  # one field of a frame; MPEG-1 has none, nor this extension
    return _KINDS.get(packet[at + 5] >> 3 & 7)  # behind 10 bits of its place in the group


def _is_shown_key_of_vp(codec: str, packet: bytes) -> bool:
    """Return whether a packet of VP8 or VP9 holds one key frame, which is shown."""
    first = packet[0]
    if codec == "vp8":
        return first & 0x11 == 0x10  # the lowest bit is 0 for a key frame, and bit 4 says that it is shown
    # From the highest bit: 2 bits of marker, 2 of profile, shown before, kind (0: key), shown. Profile 3 has one more;
    # several frames in a packet end with a table of their sizes.
    return first & 0xCE == 0x82 and first & 0x30 != 0x30 and packet[-1] >> 5 != 6


def _is_one_idr(codec: str, extradata: bytes, packet: bytes) -> bool:
    """Return whether all slices in a packet are of one IDR picture."""
    (first, last), (lowest, highest) = _IDR[codec], _SLICES[codec]
    begun = 0
    for unit in _units(packet, _length_size(codec, extradata)):
        header = 1 if codec == "h264" else 2
        if len(unit) <= header:
            return False
        kind = unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63
        if lowest <= kind <= highest:
            if not first <= kind <= last:
                return False
            begun += unit[header] >> 7  # the first slice of a picture begins with this bit
    return begun == 1


def _length_size(codec: str, extradata: bytes) -> int:
    """Return the number of bytes of the length before each unit; 0 where start codes separate them."""
    at = 4 if codec == "h264" else 21
    if len(extradata) <= at or extradata[:3] in (b"\0\0\1", b"\0\0\0"):
        return 0
    return (extradata[at] & 3) + 1


def _units(packet: bytes, length_size: int) -> Iterator[bytes]:
    """Yield the beginning of each unit of H.264 or HEVC, 3 bytes."""
    at = 0
    if not length_size:
        while (at := packet.find(_START, at)) >= 0:
            at += 3
            yield packet[at : at + 3]
        return
    while at + length_size <= len(packet):
        size = int.from_bytes(packet[at : at + length_size], "big")
        at += length_size
        yield packet[at : at + min(size, 3)]
        at += size
