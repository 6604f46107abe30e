"""Decoded videos in memory, for data sets small enough."""

import threading

import numpy as np

from fastvid.video import VideoMetadata


class FrameCache:
    """Keeps whole decoded videos until its capacity is reached; what is in stays in.

    Args:
        capacity: bytes of frames; 0 keeps nothing.

    Attributes:
        used: bytes of frames held, or about to be.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.used = 0
        self._lock = threading.Lock()
        self._videos: dict[int, tuple[VideoMetadata, np.ndarray]] = {}

    def get(self, index: int) -> tuple[VideoMetadata, np.ndarray] | None:
        """Return what :meth:`put` stored for a sample, if it did."""
        return self._videos.get(index)

    def reserve(self, info: VideoMetadata) -> bool:
        """Take room for all frames of a video, if there is enough; :meth:`put` or :meth:`release` must follow."""
        with self._lock:
            fits = self.used + _bytes(info) <= self.capacity
            self.used += _bytes(info) if fits else 0
            return fits

    def release(self, info: VideoMetadata) -> None:
        """Give back the room that was reserved for a video."""
        with self._lock:
            self.used -= _bytes(info)

    def put(self, index: int, info: VideoMetadata, frames: np.ndarray) -> None:
        """Store uint8 [frames, H, W, 3], for which room was reserved."""
        with self._lock:
            if index in self._videos:  # two threads decoded it at the same time
                self.used -= _bytes(info)
            else:
                self._videos[index] = (info, frames)


def _bytes(info: VideoMetadata) -> int:
    return info.frames * info.height * info.width * 3
