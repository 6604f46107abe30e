"""Frames by PyAV, FFmpeg inside a Python wheel: the decoder that every other one is compared with."""

from collections.abc import Iterator, Sequence

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from fastvid.video.errors import DecodeError
from fastvid.video.ffmpeg import open_video
from fastvid.video.frame_table import decoded_frames, is_key
from fastvid.video.picture_archive import PICTURES, read_pictures
from fastvid.video.probe import VideoMetadata, check_size


def read_frames(data: bytes, indices: Sequence[int], info: VideoMetadata) -> Iterator[np.ndarray]:
    """Yield the frames at ascending indices, upright, uint8 [H, W, 3].

    Raises:
        DecodeError: the file cannot be used; see its ``reason``.
    """
    if info.codec == PICTURES:
        yield from read_pictures(data, indices, info.width, info.height)
        return
    reader = _Reader(data, info)
    try:
        for index in indices:
            yield reader.read(index)
    finally:
        reader.close()


class _Reader:
    """A decoder that moves forward through a file and jumps to key frames when that saves work."""

    def __init__(self, data: bytes, info: VideoMetadata):
        self.data, self.info = data, info
        self.reformatter = VideoReformatter()  # keeps its conversion tables from frame to frame
        self.index_of_time = None if info.order is None else {int(t): index for index, t in enumerate(info.order)}
        self.key_indices, self.key_times = key_frames(info)
        self._open()

    def _open(self) -> None:
        self.container, self.stream = open_video(self.data)
        self.frames = decoded_frames(self.container, self.stream)
        self.next_index = 0  # index of the frame that comes next, where times cannot tell frames apart
        self.at_start = True
        self.landing: int | None = None  # index of the key frame that a jump must reach

    def close(self) -> None:
        self.container.close()

    def read(self, index: int) -> np.ndarray:
        self._jump(index)
        while True:
            try:
                found, frame = self._next(index)
            except DecodeError:
                if self.at_start:
                    raise
                found, frame = self.info.frames, None  # perhaps only the frames around a jump are undecodable
            if found == index and frame is not None:
                return self._upright_rgb(frame)
            if found > index:  # the jump landed too late, or the frame is missing
                if self.at_start:
                    raise DecodeError("frame_count", f"frame {index} of {self.info.frames} is missing from the file")
                self._restart()

    def _next(self, wanted: int) -> tuple[int, av.VideoFrame | None]:
        """Return the next frame and its index; -1 for one that is not in the table."""
        frame = next(self.frames, None)
        if frame is None:
            raise DecodeError(
                "frame_count", f"decoding ended at frame {self.next_index} of {self.info.frames}, before frame {wanted}"
            )
        index = self._index_of(frame)
        if index is None:
            return -1, frame
        if self.at_start and index < self.next_index:
            raise DecodeError("frame_count", f"frame {index} of {self.info.frames} is decoded after frame {wanted - 1}")
        if self.landing is not None and index >= self.landing:
            if index > self.landing or not is_key(frame):
                self.key_indices = self.key_indices[
                    :0
                ]  # what the file calls key frames are none: read through from now on
                return self.info.frames, None
            self.landing = None
        self.next_index = index + 1
        return index, frame

    def _index_of(self, frame: av.VideoFrame) -> int | None:
        pts = self.info.pts
        if pts is None or frame.pts is None:
            return self.next_index
        if self.index_of_time is not None:
            return self.index_of_time.get(frame.pts)
        first, end = int(np.searchsorted(pts, frame.pts, "left")), int(np.searchsorted(pts, frame.pts, "right"))
        return min(max(first, self.next_index), end - 1) if end > first else None

    def _jump(self, index: int) -> None:
        """Seek to the last key frame at or before ``index``, if it lies ahead."""
        key = int(np.searchsorted(self.key_indices, index, side="right")) - 1
        if key < 0 or self.key_indices[key] <= self.next_index:
            return
        self.container.seek(int(self.key_times[key]), stream=self.stream, backward=True)
        self.frames = decoded_frames(self.container, self.stream)
        self.next_index, self.at_start, self.landing = 0, False, int(self.key_indices[key])

    def _restart(self) -> None:
        self.close()
        self._open()

    def _upright_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        info = self.info
        check_size(frame.width, frame.height, self.next_index - 1, info)
        image = self.reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(image, info.rotation)) if info.rotation else image


def key_frames(info: VideoMetadata) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the key frames that can be jumped to, ascending, and the stored timestamp of each."""
    if info.pts is None or not len(info.keyframes) or info.has_palette:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    times = info.keyframes[:, 0]
    places = np.arange(info.frames) if info.order is None else np.argsort(info.order)
    found = np.searchsorted(info.pts, times)  # pts is the sorted order
    # A key frame that shares its time with another frame could be either.
    is_shown = np.searchsorted(info.pts, times, "right") - found == 1
    indices, times = places[found[is_shown]], times[is_shown]
    ascending = np.argsort(indices, kind="stable")
    return indices[ascending], times[ascending]
