"""Decoded videos in memory, for small data sets."""

import threading

import numpy as np

from fastvid.video import VideoMetadata


class FrameCache:
    """Cache of whole decoded videos that fills up to its capacity and never evicts.

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
        """Return what :meth:`put` stored for a sample, or None."""
        return self._videos.get(index)

    def reserve(self, info: VideoMetadata) -> bool:
        """Reserve room for all frames of a video and return True, if there is enough. :meth:`put` or :meth:`release`
        must follow.
        """
        with self._lock:
            fits = self.used + _bytes(info) <= self.capacity
            self.used += _bytes(info) if fits else 0
            return fits

    def release(self, info: VideoMetadata) -> None:
        """Release the room that was reserved for a video."""
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
