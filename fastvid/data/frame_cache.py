"""Decoded videos in memory, for data sets small enough."""

import threading

import numpy as np

from fastvid.video import VideoInfo


class FrameCache:
    """Keeps whole decoded videos until its capacity is reached; what is in stays in.

    Args:
        capacity: bytes of frames; 0 keeps nothing.

    Attributes:
        used: bytes of frames held.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.used = 0
        self._lock = threading.Lock()
        self._videos: dict[int, tuple[VideoInfo, np.ndarray]] = {}

    def get(self, index: int) -> tuple[VideoInfo, np.ndarray] | None:
        """What :meth:`put` stored for a sample, if it did."""
        return self._videos.get(index)

    def admits(self, info: VideoInfo) -> bool:
        """Whether there is room for all frames of a video."""
        return self.used + info.frames * info.height * info.width * 3 <= self.capacity

    def put(self, index: int, info: VideoInfo, frames: np.ndarray) -> None:
        """Stores uint8 [frames, H, W, 3], unless another thread took the room meanwhile."""
        with self._lock:
            if index not in self._videos and self.used + frames.nbytes <= self.capacity:
                self._videos[index] = (info, frames)
                self.used += frames.nbytes
