"""Small encoded videos for tests: every frame shows its own number in black and white bars."""

import io
import struct
from fractions import Fraction

import av
import numpy as np

BITS, BAR, HEIGHT = 8, 16, 64


def numbered_frame(index: int, height: int = HEIGHT) -> np.ndarray:
    """uint8 [height, BITS * BAR, 3]: bar k is white when bit k of ``index`` is set."""
    bits = [(index >> k) & 1 for k in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 255, BAR)
    return np.repeat(np.broadcast_to(row, (height, len(row)))[..., None], 3, axis=2).copy()


def number_of(frame: np.ndarray) -> int:
    """Reads a frame's number back."""
    centre = frame[frame.shape[0] // 2, BAR // 2 :: BAR, 1] > 127
    return int(sum(int(bit) << k for k, bit in enumerate(centre)))


def coloured_frame(index: int, height: int = HEIGHT) -> np.ndarray:
    """uint8 [height, BITS * BAR, 3]: hues that run smoothly and move with ``index``."""
    y, x = np.mgrid[0:height, 0 : BITS * BAR]
    waves = (np.sin(x / 17 + index / 4), np.cos(y / 23 - index / 6), np.sin((x + y) / 29 + index / 9))
    return np.stack([128 + 90 * wave for wave in waves], axis=-1).astype(np.uint8)


def encode(
    count: int = 40,
    codec: str = "libx264",
    container: str = "mp4",
    *,
    options: dict[str, str] | None = None,
    times: list[int] | None = None,
    rotation: int = 0,
    audio: bool = False,
    height: int = HEIGHT,
    start: int = 0,
    coloured: bool = False,
    matrix: int = 0,
    full_range: bool = False,
    wide: int = 1,
    shown: int = 0,
) -> bytes:
    """Encodes ``count`` numbered frames; ``times`` are presentation times in milliseconds, default 25 a second. The
    first frame shows the number ``shown``.

    ``coloured`` ones show moving hues instead of their number. ``matrix`` names the YCbCr matrix in the file (1 is
    BT.709), without which none is named and readers take BT.601; ``full_range`` goes with it. Each
    pixel is repeated ``wide`` times along its row.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = height, BITS * BAR * wide, "yuv420p"
        stream.options = options or {}
        if matrix:
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full_range else 1
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        if audio:
            sound = out.add_stream("aac" if container in ("mp4", "mov") else "libopus", rate=48000)
        for i in range(count):
            picture = coloured_frame if coloured else numbered_frame
            frame = av.VideoFrame.from_ndarray(picture(shown + i, height).repeat(wide, axis=1), format="rgb24")
            if matrix:
                frame = frame.reformat(format="yuv420p", dst_colorspace=matrix)
                frame.colorspace, frame.color_range = matrix, 2 if full_range else 1
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            else:
                frame.pts, frame.time_base = start + i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if audio:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
            silence.sample_rate = 48000
            out.mux(sound.encode(silence))
            out.mux(sound.encode())
    return file.getvalue()


def shifted(source: bytes, seconds: float) -> bytes:
    """The packets of an mp4 with all times moved; where some fall below zero the muxer writes an edit list."""
    file = io.BytesIO()
    with av.open(io.BytesIO(source)) as original, av.open(file, "w", format="mp4") as out:
        stream = original.streams.video[0]
        copy = out.add_stream_from_template(stream)
        ticks = round(seconds / float(stream.time_base))
        for packet in original.demux(stream):
            if packet.dts is None:
                continue
            packet.pts += ticks
            packet.dts += ticks
            packet.stream = copy
            out.mux(packet)
    return file.getvalue()


def pieces(source: bytes, shown: list[tuple[int, int]]) -> bytes:
    """An mp4 with an edit list, with another one: (milliseconds shown, from which tick of the media on) for each."""
    at = source.index(b"elst")
    old = int.from_bytes(source[at - 4 : at], "big")
    body = b"elst" + bytes(4) + struct.pack(">I", len(shown))
    body += b"".join(struct.pack(">Iii", length, start, 1 << 16) for length, start in shown)
    out = source[: at - 4] + struct.pack(">I", len(body) + 4) + body + source[at - 4 + old :]
    for name in (b"edts", b"trak", b"moov"):  # the boxes around it grow too; the media lies before them
        size = out.rindex(name, 0, at) - 4
        grown = int.from_bytes(out[size : size + 4], "big") + len(body) + 4 - old
        out = out[:size] + struct.pack(">I", grown) + out[size + 4 :]
    return out


def sound_alone() -> bytes:
    """An mp4 file without pictures."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        silence.sample_rate = 48000
        out.mux(stream.encode(silence))
        out.mux(stream.encode())
    return file.getvalue()
