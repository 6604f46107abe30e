"""Files that end early, or may: live recordings, AVI of several parts, videos with sound."""

import io
import struct
from fractions import Fraction

import av
import numpy as np

from tests.video.clips import encode


class Pipe:
    """A file that cannot be sought."""

    def __init__(self):
        self.data = bytearray()

    def write(self, data) -> int:
        self.data += data
        return len(data)


def copied(video: bytes, container: str, *, options: dict[str, str] | None = None, pipe: bool = False) -> bytes:
    """The packets of a video in another file, which is written as if to a pipe on request."""
    file = Pipe() if pipe else io.BytesIO()
    with av.open(io.BytesIO(video)) as original, av.open(file, "w", format=container, options=options or {}) as out:
        stream = original.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for packet in original.demux(stream):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    return bytes(file.data) if isinstance(file, Pipe) else file.getvalue()


def with_sound(video: bytes, container: str, codec: str, seconds: float) -> bytes:
    """The packets of a video and a tone, interleaved."""
    file = io.BytesIO()
    with av.open(io.BytesIO(video)) as original, av.open(file, "w", format=container) as out:
        stream = original.streams.video[0]
        copy = out.add_stream_from_template(stream)
        sound = out.add_stream(codec, rate=48000, layout="mono")
        tone = (8000 * np.sin(np.arange(round(48000 * seconds)) / 20)).astype(np.int16)[None]
        heard: list[av.Packet] = []
        length = {"aac": 1024, "libopus": 960}.get(codec, 1152)  # samples that the codec takes at a time
        for start in range(0, tone.shape[1] - length + 1, length):
            frame = av.AudioFrame.from_ndarray(tone[:, start : start + length], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            heard += sound.encode(frame)
        heard += sound.encode()
        for packet in original.demux(stream):
            if packet.size:
                packet.stream = copy
                while heard and heard[0].dts * heard[0].time_base <= packet.dts * packet.time_base:
                    out.mux(heard.pop(0))
                out.mux(packet)
        for packet in heard:
            out.mux(packet)
    return file.getvalue()


def last_bytes(video: bytes, kind: str) -> int:
    """Where the last packet of the streams of this kind ends."""
    with av.open(io.BytesIO(video)) as container:
        return max(
            packet.pos + 8 + packet.size for packet in container.demux() if packet.stream.type == kind and packet.size
        )


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def opendml(
    count: int = 40, parts: int = 2, *, index: bool = True, stated: int | None = None
) -> tuple[bytes, list[int]]:
    """An AVI whose pictures lie in several parts, and where each part ends.

    Args:
        count: number of frames.
        parts: number of parts.
        index: whether the header lists the parts.
        stated: number of frames that the header announces; default ``count``.
    """
    plain = encode(count, "mpeg4", "avi", options={"bf": "0", "g": "10"})
    header = bytearray(plain[12 : 12 + 8 + int.from_bytes(plain[16:20], "little")])
    at = plain.index(b"movi") + 4
    pictures: list[bytes] = []
    while plain[at : at + 4] == b"00dc":
        size = int.from_bytes(plain[at + 4 : at + 8], "little")
        pictures.append(plain[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    assert len(pictures) == count
    out, ends, entries = bytes(12) + bytes(header), [], []
    for part in range(parts):
        mine = pictures[part * count // parts : (part + 1) * count // parts]
        start = len(out) + (12 if part else 0)
        if part:
            out += bytes(12)
        content, lines = b"movi", b""
        for picture in mine:
            key = b"\0\0\1\xb0" in picture  # a header comes with each key frame
            lines += struct.pack("<II", len(content) + 8, len(picture) | (0 if key else 1 << 31))
            content += _chunk(b"00dc", picture)
        entries.append((start + 8 + len(content), len(lines) + 32, len(mine)))
        content += _chunk(b"ix00", struct.pack("<HBBI4sQI", 2, 0, 1, len(mine), b"00dc", start + 8, 0) + lines)
        out += _chunk(b"LIST", content)
        ends.append(len(out))
    data = bytearray(out)
    for part in range(parts):
        start = ends[part - 1] if part else 0
        data[start : start + 12] = b"RIFF" + struct.pack("<I", ends[part] - start - 8) + (b"AVIX" if part else b"AVI ")
    if index:
        at = data.index(b"JUNK", data.index(b"strf"))
        data[at : at + 4] = b"indx"
        struct.pack_into("<HBBI4s", data, at + 8, 4, 0, 0, parts, b"00dc")
        for number, entry in enumerate(entries):
            struct.pack_into("<QII", data, at + 32 + 16 * number, *entry)
    at = data.index(b"odmldmlh") - 8
    data[at : at + 4] = b"LIST"
    struct.pack_into("<I", data, at + 20, count if stated is None else stated)
    return bytes(data), ends
