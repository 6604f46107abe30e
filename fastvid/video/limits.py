"""Limits that refuse a video before a frame is decoded."""

from dataclasses import dataclass

from fastvid.video.errors import DecodeError


@dataclass(frozen=True)
class Limits:
    """Largest video that is decoded; checked against the metadata, since a 200 KB file can claim 8192 x 8192 frames.

    Attributes:
        bytes: size of the file.
        pixels: width times height; the default admits 4096 x 2304.
        frames: frames in the file.
        seconds: duration.
    """

    bytes: int = 4 << 30
    pixels: int = 4096 * 2304
    frames: int = 1_000_000
    seconds: float = 6 * 3600.0

    def check(self, *, size: int = 0, width: int = 0, height: int = 0, frames: int = 0, seconds: float = 0.0) -> None:
        """Raise DecodeError ``limit`` naming the first quantity that is too large."""
        for name, value, most in (
            ("bytes", size, self.bytes),
            (f"pixels per frame ({width} x {height})", width * height, self.pixels),
            ("frames", frames, self.frames),
            ("seconds", seconds, self.seconds),
        ):
            if value > most:
                raise DecodeError("limit", f"{value:g} {name}; the limit is {most:g}")
