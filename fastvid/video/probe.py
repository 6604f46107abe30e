"""What a video file holds, read without decoding a frame: codec, size, and when each frame is shown."""

import io
from dataclasses import dataclass
from functools import cached_property

import av
import numpy as np

from fastvid.video.container import check_complete, container_format, may_be_rotated
from fastvid.video.errors import DecodeError
from fastvid.video.limits import Limits


@dataclass(frozen=True)
class Colours:
    """How a video's numbers stand for colours.

    Attributes:
        pix_fmt: FFmpeg's name of the sample layout, such as ``"yuv420p"``; empty when the header does not tell.
        matrix: ITU-T H.273 MatrixCoefficients: 1 is BT.709, 5 and 6 are BT.601, 9 is BT.2020, 2 is not stated.
        full_range: whether luma runs from 0 to 255 and not from 16 to 235.
    """

    pix_fmt: str
    matrix: int
    full_range: bool


@dataclass(frozen=True)
class VideoInfo:
    """A video's metadata and frame table.

    Attributes:
        codec: FFmpeg's name of the codec, such as ``"h264"``.
        width: of the coded frame, before rotation, pixels.
        height: of the coded frame, before rotation, pixels.
        rotation: quarter turns, counter-clockwise, that make a frame upright.
        frames: number of frames shown.
        fps: average frames per second.
        duration: seconds from the first frame to the end of the last.
        pts: int64 [frames], presentation times in units of ``time_base``, ascending; None when the container stores
            none for some frame, and frames can only be counted.
        time_base: seconds per unit of ``pts``.
        keyframes: int64 [K, 2], (pts, dts) of each key frame by ascending pts.
        colours: how colours are coded; None when this was not read from the file itself.
    """

    codec: str
    width: int
    height: int
    rotation: int
    frames: int
    fps: float
    duration: float
    pts: np.ndarray | None
    time_base: float
    keyframes: np.ndarray
    colours: Colours | None = None

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) of a frame as shown."""
        return (self.width, self.height) if self.rotation % 2 else (self.height, self.width)

    @cached_property
    def times(self) -> np.ndarray:
        """float64 [frames]: seconds at which each frame is shown, from 0."""
        if self.pts is None:
            return np.arange(self.frames) / self.fps
        return (self.pts - self.pts[0]) * self.time_base


def open_video(data: bytes) -> tuple[av.container.InputContainer, av.VideoStream]:
    """Opens a video from its bytes and selects FFmpeg's best video stream; the caller closes the container.

    Raises:
        DecodeError: ``container``, ``no_video`` or ``codec``.
    """
    try:
        container = av.open(io.BytesIO(data), mode="r", format=container_format(data))
    except (av.error.FFmpegError, ValueError) as error:
        raise DecodeError("container", f"FFmpeg cannot open it: {first_line(error)}") from error
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream):
        container.close()
        raise DecodeError("no_video", "the file has no video stream")
    if stream.codec_context is None:
        container.close()
        raise DecodeError("codec", "there is no decoder for its video codec (encrypted, or unknown to FFmpeg)")
    # One thread per file: clips are decoded side by side, and frame threads would only add delay.
    stream.codec_context.thread_count = 1
    return container, stream


def probe(data: bytes, limits: Limits | None = None) -> VideoInfo:
    """Reads a video's metadata and frame table from its bytes.

    Args:
        data: the whole file.
        limits: what to refuse; default :class:`Limits`.

    Returns:
        The :class:`VideoInfo`.

    Raises:
        DecodeError: not a supported container, no video stream, cut short, no frames, or larger than the limits.
    """
    limits = limits or Limits()
    limits.check(size=len(data))
    check_complete(data)
    container, stream = open_video(data)
    with container:
        codec = stream.codec_context
        limits.check(width=codec.width, height=codec.height, frames=stream.frames)
        if container.duration:
            limits.check(seconds=container.duration / av.time_base)
        return _frame_table(container, stream, limits, _rotation(data))


def _rotation(data: bytes) -> int:
    """Quarter turns asked for by the display matrix, which FFmpeg hands out with decoded frames only."""
    if not may_be_rotated(data):
        return 0
    container, stream = open_video(data)
    with container:
        try:
            return round(next(container.decode(stream)).rotation / 90) % 4
        except (StopIteration, av.error.FFmpegError) as error:
            raise DecodeError("corrupt", f"the first frame does not decode: {first_line(error)}") from error


def _frame_table(container, stream, limits: Limits, rotation: int) -> VideoInfo:
    shown: list[tuple[int | None, int | None, bool]] = []
    codec = stream.codec_context
    name = codec.codec.canonical_name  # codec.name is the decoder's, such as libdav1d for av1
    last_duration = 0
    try:
        for packet in container.demux(stream):
            # Flushing and edit lists produce packets that show nothing; so do VP8's hidden reference frames.
            if packet.size == 0 or packet.is_discard or (name == "vp8" and not bytes(packet)[0] & 0x10):
                continue
            shown.append((packet.pts, packet.dts, packet.is_keyframe))
            last_duration = packet.duration or last_duration
            if len(shown) > limits.frames:
                limits.check(frames=len(shown))
    except av.error.FFmpegError as error:
        raise DecodeError("corrupt", f"reading stopped after {len(shown)} frames: {first_line(error)}") from error
    if not shown:
        raise DecodeError("frame_count", "the video stream has no frames")
    rate = float(stream.average_rate or stream.guessed_rate or 0) or 25.0
    time_base = float(stream.time_base)
    pts = None
    duration = len(shown) / rate
    if all(p is not None for p, _, _ in shown):
        pts = np.sort(np.array([p for p, _, _ in shown], dtype=np.int64))
        span = float(pts[-1] - pts[0] + last_duration) * time_base
        if span > 0:
            duration, rate = span, len(shown) / span
    limits.check(seconds=duration)
    keys = sorted((p, p if d is None else d) for p, d, key in shown if key and p is not None)
    return VideoInfo(
        codec=name,
        width=codec.width,
        height=codec.height,
        rotation=rotation,
        frames=len(shown),
        fps=rate,
        duration=duration,
        pts=pts,
        time_base=time_base,
        keyframes=np.array(keys, dtype=np.int64).reshape(-1, 2),
        colours=_colours(codec),
    )


def colours_of(data: bytes) -> Colours:
    """A video's :class:`Colours`, from its bytes.

    Raises:
        DecodeError: ``container``, ``no_video`` or ``codec``.
    """
    container, stream = open_video(data)
    with container:
        return _colours(stream.codec_context)


def _colours(codec) -> Colours:
    pix_fmt = codec.pix_fmt or ""
    return Colours(pix_fmt, int(codec.colorspace), int(codec.color_range) == 2 or pix_fmt.startswith("yuvj"))


def first_line(error: Exception) -> str:
    """FFmpeg's own words, without error numbers and function names."""
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__
