"""Frames of a video by index, exact by presentation time."""

from collections.abc import Iterator, Sequence

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from fastvid.video.errors import DecodeError
from fastvid.video.limits import Limits
from fastvid.video.probe import VideoInfo, first_line, open_video, probe


def decode(
    data: bytes, indices: Sequence[int], *, info: VideoInfo | None = None, limits: Limits | None = None
) -> np.ndarray:
    """Decodes the frames of a video at the given indices.

    The video is opened from its bytes, never from a path or URL, so nothing in it can make FFmpeg open another file.
    Index i means the i-th frame in the order shown: frames are found by presentation time, which is exact where frame
    rates vary, where frames are reordered, and after edit lists. Pixels are FFmpeg's, at the native size, converted to
    RGB and turned upright as the file's rotation metadata asks.

    Args:
        data: the whole file: H.264, HEVC, VP8, VP9, AV1 or another codec of the installed PyAV, in mp4, mov, mkv, webm
            or avi.
        indices: frames wanted, in [0, frames), in any order, repeats allowed.
        info: the file's :func:`probe`, if at hand.
        limits: what to refuse; default :class:`Limits`.

    Returns:
        uint8 [len(indices), H, W, 3].

    Raises:
        DecodeError: the file cannot be used; see its ``reason``.
        IndexError: an index outside [0, frames).

    Example:
        >>> clip = decode(Path("a.mp4").read_bytes(), range(0, 64, 4))
    """
    info = info or probe(data, limits)
    out: np.ndarray | None = None
    for position, frame in iter_frames(data, indices, info=info):
        if out is None:
            out = np.empty((len(indices), *frame.shape), np.uint8)
        out[position] = frame
    return np.empty((0, info.height, info.width, 3), np.uint8) if out is None else out


def iter_frames(data: bytes, indices: Sequence[int], *, info: VideoInfo) -> Iterator[tuple[int, np.ndarray]]:
    """Like :func:`decode`, a frame at a time: yields (position in ``indices``, uint8 [H, W, 3]) in order of time.

    Memory stays at one frame, whatever the clip's length. The same array is yielded for each repeat of an index.
    """
    positions: dict[int, list[int]] = {}
    for position, index in enumerate(indices):
        if not 0 <= index < info.frames:
            raise IndexError(f"frame {index} of a video with {info.frames} frames")
        positions.setdefault(int(index), []).append(position)
    if not positions:
        return
    reader = _Reader(data, info)
    try:
        for index in sorted(positions):
            frame = reader.read(index)
            for position in positions[index]:
                yield position, frame
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
        # mp4 seeks by decoding time, matroska by presentation time.
        time = info.keyframes[key, 1 if "mov" in self.container.format.name else 0]
        self.container.seek(int(time), stream=self.stream, backward=True)
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
