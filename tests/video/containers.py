"""Containers as they are found in the wild: AVI, boxes that were lost, packets that hold two pictures."""

import io
from collections.abc import Callable
from fractions import Fraction

import av

from tests.video.clips import encode

_VOP = b"\x00\x00\x01\xb6"
_PACKED = b"\x00\x00\x01\xb2DivX503b1393p"  # user data by which decoders know it
# A P picture (01), no second passed (0), a marker, time 0 of 25 (5 bits), a marker, not coded (0), and stuffing.
NOT_CODED = _VOP + bytes([0b01010000, 0b01001111])


def without_boxes(video: bytes, *names: bytes) -> bytes:
    """An mp4 or mov whose boxes of these names are left for dead, such as ``b"ctts"``, the presentation times."""
    for name in names:
        assert name in video, f"no box {name!r} to remove"
        video = video.replace(name, b"free")
    return video


def remuxed(
    video: bytes,
    container: str = "matroska",
    *,
    first: int = 0,
    time: Callable[[int, av.Packet], int] = lambda number, packet: packet.pts,
) -> bytes:
    """The packets of a video from number ``first`` on, in order of decoding, each with the presentation time given."""
    file = io.BytesIO()
    with av.open(io.BytesIO(video)) as original, av.open(file, "w", format=container) as out:
        stream = original.streams.video[0]
        copy = out.add_stream_from_template(stream)
        packets = [packet for packet in original.demux(stream) if packet.size]
        for number, packet in enumerate(packets[first:]):
            packet.pts = time(number, packet)
            packet.dts = number - 1000  # Matroska stores none, but the muxer wants them ascending and below pts
            packet.stream = copy
            out.mux(packet)
    return file.getvalue()


def second_key_frame(video: bytes) -> int:
    """The number of the second key frame's packet, in order of decoding."""
    with av.open(io.BytesIO(video)) as container:
        keys = [k for k, packet in enumerate(container.demux(container.streams.video[0])) if packet.is_keyframe]
    return keys[1]


def packed_bitstream(count: int = 40) -> bytes:
    """MPEG-4 in AVI as DivX 5 and XviD pack it: each B-frame rides in the packet of the frame it was predicted from.

    A picture that says "not coded" fills the place that it left.
    """
    source = encode(count, "mpeg4", "avi", options={"bf": "1", "g": "12", "q:v": "3", "sc_threshold": "1000000000"})
    file = io.BytesIO()
    with av.open(io.BytesIO(source)) as original, av.open(file, "w", format="avi") as out:
        stream = original.streams.video[0]
        copy = out.add_stream_from_template(stream)
        payloads = [bytes(packet) for packet in original.demux(stream) if packet.size]
        keys = [_coding_type(payload) == 0 for payload in payloads]
        packed: list[bytes] = []
        for payload, key in zip(payloads, keys, strict=True):
            if _coding_type(payload) == 2:
                packed[-1] += payload
                packed.append(NOT_CODED)
            else:
                at = payload.index(_VOP) if key else 0
                packed.append(payload[:at] + _PACKED * key + payload[at:])
        assert sum(payload.count(_VOP) == 2 for payload in packed) > count // 4
        for number, (payload, key) in enumerate(zip(packed, keys, strict=True)):
            packet = av.Packet(payload)
            packet.stream, packet.pts, packet.dts, packet.time_base = copy, number, number, copy.time_base
            packet.is_keyframe = key
            out.mux(packet)
    return file.getvalue()


def _coding_type(payload: bytes) -> int:
    return payload[payload.index(_VOP) + 4] >> 6


def joined(*videos: bytes, container: str) -> bytes:
    """The packets of several videos one after the other, at 25 a second, in a file that describes the first."""
    file = io.BytesIO()
    with av.open(io.BytesIO(videos[0])) as first, av.open(file, "w", format=container) as out:
        copy = out.add_stream_from_template(first.streams.video[0])
        number = 0
        for video in videos:
            with av.open(io.BytesIO(video)) as original:
                for source in original.demux(original.streams.video[0]):
                    if source.size:
                        packet = av.Packet(bytes(source))
                        packet.stream, packet.time_base = copy, Fraction(1, 25)
                        packet.pts = packet.dts = number
                        packet.duration = 1
                        packet.is_keyframe = source.is_keyframe
                        out.mux(packet)
                        number += 1
    return file.getvalue()
