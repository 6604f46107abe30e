"""Small encoded videos for tests: every frame shows its own number in black and white bars."""

import io
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
) -> bytes:
    """Encodes ``count`` numbered frames; ``times`` are presentation times in milliseconds, default 25 a second."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = height, BITS * BAR, "yuv420p"
        stream.options = options or {}
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        if audio:
            sound = out.add_stream("aac" if container in ("mp4", "mov") else "libopus", rate=48000)
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(numbered_frame(i, height), format="rgb24")
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
