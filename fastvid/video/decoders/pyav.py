"""Frames by PyAV, FFmpeg inside a Python wheel: the decoder that every other one is compared with."""

from collections.abc import Iterator, Sequence

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from fastvid.video.errors import DecodeError
from fastvid.video.probe import VideoInfo, first_line, open_video


def read_frames(data: bytes, indices: Sequence[int], info: VideoInfo) -> Iterator[np.ndarray]:
    """Yields the frames at ascending indices, upright, uint8 [H, W, 3].

    Raises:
        DecodeError: the file cannot be used; see its ``reason``.
    """
    reader = _Reader(data, info)
    try:
        for index in indices:
            yield reader.read(index)
    finally:
        reader.close()


class _Reader:
    """A decoder that moves forward through a file and jumps to key frames when that saves work."""

    def __init__(self, data: bytes, info: VideoInfo):
        self.data, self.info = data, info
        self.reformatter = VideoReformatter()  # keeps its conversion tables from frame to frame
        self._open()

    def _open(self) -> None:
        self.container, self.stream = open_video(self.data)
        self.frames = self._decoded()
        self.next_index = 0  # index of the frame that comes next, where pts cannot tell equal times apart
        self.at_start = True

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

    def _next(self, wanted: int) -> tuple[int, av.VideoFrame]:
        try:
            frame = next(self.frames)
        except StopIteration:
            raise DecodeError(
                "frame_count", f"decoding ended at frame {self.next_index} of {self.info.frames}, before frame {wanted}"
            ) from None
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(
                "corrupt", f"the decoder stopped at frame {self.next_index}: {first_line(error)}"
            ) from error
        index = self._index_of(frame)
        self.next_index = index + 1
        return index, frame

    def _index_of(self, frame: av.VideoFrame) -> int:
        pts = self.info.pts
        if pts is None or frame.pts is None:
            return self.next_index
        first = int(np.searchsorted(pts, frame.pts, side="left"))
        last = int(np.searchsorted(pts, frame.pts, side="right")) - 1
        return min(max(first, self.next_index), last) if last >= first else first

    def _jump(self, index: int) -> None:
        """Seeks to the last key frame at or before ``index``, if it lies ahead."""
        info = self.info
        if info.pts is None or not len(info.keyframes):
            return
        key = int(np.searchsorted(info.keyframes[:, 0], info.pts[index], side="right")) - 1
        if key < 0 or int(np.searchsorted(info.pts, info.keyframes[key, 0])) <= self.next_index:
            return
        self.container.seek(int(info.keyframes[key, 0]), stream=self.stream, backward=True)
        self.frames = self._decoded()
        self.next_index, self.at_start = 0, False

    def _restart(self) -> None:
        self.close()
        self._open()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        for packet in self.container.demux(self.stream):
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise DecodeError("corrupt", f"the decoder flagged frame {self.next_index} as damaged")
                yield frame

    def _upright_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        info = self.info
        if (frame.width, frame.height) != (info.width, info.height):
            raise DecodeError(
                "corrupt", f"a frame is {frame.width} x {frame.height} in a video of {info.width} x {info.height}"
            )
        image = self.reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(image, info.rotation)) if info.rotation else image
