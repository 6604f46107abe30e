"""Videos whose right answers are known."""

import io

import av
import numpy as np


def encode_grey(levels, *, side: int = 64) -> bytes:
    """Encodes one grey frame for each level in [0, 255]."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height = stream.width = side
        stream.pix_fmt = "yuv420p"
        for level in levels:
            picture = np.full((side, side, 3), round(level), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return file.getvalue()


def brightening(start: float, *, frames: int = 16, step: float = 6.0) -> bytes:
    """A video that gets brighter from frame to frame: its direction and the order of its parts can be seen."""
    return encode_grey(start + step * np.arange(frames))
