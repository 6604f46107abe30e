"""Decoded videos in memory, for small data sets."""

import threading
from dataclasses import dataclass, replace

import numpy as np

from fastvid.video import VideoMetadata, View, ViewSpec, cut_view, decode, decode_view

# Most frames of a video for each frame of the stretch that a view covers: decoding more costs what no epoch pays back.
_WORTH_KEEPING = 4


@dataclass(frozen=True)
class CachedVideo:
    """The decoded frames of a video.

    Attributes:
        info: its frame table and size.
        frames: uint8 [frames, H, W, 3], or [frames, size, size, 3] where they are cropped and resized already.
        cropped: whether they are.
    """

    info: VideoMetadata
    frames: np.ndarray
    cropped: bool

    def cut(self, view: View, out: np.ndarray) -> None:
        """Cut a view out into uint8 [len(view.frames), size, size, 3], as :func:`fastvid.video.decode_view` does."""
        cut_view(self.frames, replace(view, box=(0, 0, view.size, view.size)) if self.cropped else view, out)


class FrameCache:
    """Cache of decoded videos that fills up to its capacity and never evicts.

    Where all views of a video share one crop (:meth:`fastvid.video.ViewSpec.fixed_box`), that crop is kept at the size
    of the views, and whole frames otherwise. A video of which views show a small part only is not kept.

    Args:
        capacity: bytes of frames; 0 keeps nothing.
        spec: parameters of the views that are cut.

    Attributes:
        used: bytes of frames held, or about to be.
    """

    def __init__(self, capacity: int, spec: ViewSpec):
        self.capacity, self.spec = capacity, spec
        self.used = 0
        self._lock = threading.Lock()
        self._videos: dict[int, CachedVideo] = {}

    def get(self, index: int) -> CachedVideo | None:
        """Return what :meth:`put` stored for a sample, or None."""
        return self._videos.get(index)

    def reserve(self, info: VideoMetadata, view: View) -> bool:
        """Reserve room for a video and return True, if there is enough and ``view`` covers enough of the video.
        :meth:`put` or :meth:`release` must follow.
        """
        if info.frames > _WORTH_KEEPING * (max(view.frames) - min(view.frames) + 1):
            return False
        with self._lock:
            fits = self.used + self._bytes(info) <= self.capacity
            self.used += self._bytes(info) if fits else 0
            return fits

    def release(self, info: VideoMetadata) -> None:
        """Release the room that was reserved for a video."""
        with self._lock:
            self.used -= self._bytes(info)

    def put(self, index: int, key: str, data: bytes, info: VideoMetadata, decoder: str) -> CachedVideo:
        """Decode a video, for which room was reserved, and keep its frames.

        Args:
            index: position of the sample in its source.
            key: the sample's key.
            data: the video file.
            info: its frame table and size.
            decoder: one of the processor's decoders.

        Raises:
            DecodeError: some frame cannot be decoded; the room is released.
        """
        box, every = self.spec.fixed_box(info), range(info.frames)
        try:
            if box is None:
                frames = decode(data, every, info=info, decoder=decoder)
            else:
                whole = View(key, tuple(every), box, flip=False, size=self.spec.size)
                frames = decode_view(data, whole, info=info, decoder=decoder)
        except BaseException:
            self.release(info)
            raise
        video = CachedVideo(info, frames, cropped=box is not None)
        with self._lock:
            if index in self._videos:  # two threads decoded it at the same time
                self.used -= self._bytes(info)
            else:
                self._videos[index] = video
        return video

    def _bytes(self, info: VideoMetadata) -> int:
        pixels = info.height * info.width if self.spec.fixed_box(info) is None else self.spec.size**2
        return info.frames * pixels * 3
