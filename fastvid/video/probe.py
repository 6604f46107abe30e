"""Probe of a video file: codec, size, and when each frame is shown."""

import functools
import hashlib
import logging
import threading
from dataclasses import dataclass, replace
from functools import cached_property

import av
import numpy as np

from fastvid.video.avi import is_count
from fastvid.video.completeness import missing_sentence, why_incomplete
from fastvid.video.container import has_several_edits, may_be_rotated, missing_bytes
from fastvid.video.errors import DecodeError
from fastvid.video.ffmpeg import first_line, open_video
from fastvid.video.frame_table import FrameTable, decode_table, read_table
from fastvid.video.limits import Limits
from fastvid.video.picture_archive import PICTURES, is_pictures, open_pictures, picture_size

log = logging.getLogger(__name__)

_LONGEST_PIXEL = 8  # times as long as wide; those of DVDs and anamorphic lenses are below 3
_MOST_REMEMBERED = 4096  # tables that took decoding, kept in a process
_decoded_tables: dict[bytes, FrameTable] = {}
_decoded_tables_lock = threading.Lock()


@dataclass(frozen=True)
class Colours:
    """The colour encoding of a video.

    Attributes:
        pix_fmt: FFmpeg's name of the sample layout, such as ``"yuv420p"``; empty when the header does not tell.
        matrix: ITU-T H.273 MatrixCoefficients: 1 is BT.709, 5 and 6 are BT.601, 9 is BT.2020, 2 is not stated.
        full_range: whether luma runs from 0 to 255 and not from 16 to 235.
    """

    pix_fmt: str
    matrix: int
    full_range: bool


@dataclass(frozen=True)
class VideoMetadata:
    """A video's metadata and frame table.

    Attributes:
        codec: FFmpeg's name of the codec, such as ``"h264"``.
        width: width of the coded frame, before rotation, pixels.
        height: height of the coded frame, before rotation, pixels.
        rotation: quarter turns, counter-clockwise, that make a frame upright.
        frames: number of frames shown.
        fps: average frames per second.
        duration: seconds from the first frame to the end of the last.
        pts: int64 [frames], presentation times in units of ``time_base``, ascending; None when the container stores
            none for some frame, and frames can only be counted.
        time_base: seconds per unit of ``pts``.
        keyframes: int64 [K, 2], (stored timestamp, decode timestamp) of each key frame, ascending.
        colours: how colours are coded; None when this was not read from the file itself.
        order: int64 [frames], the stored timestamp of the packet that holds each frame, in the order shown; None where
            that is ``pts``, as it is wherever the container stores presentation times.
        pixel_aspect: width to height of a pixel of the coded frame as shown, in whole numbers; (1, 1) is square,
            and unknown.
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
    order: np.ndarray | None = None
    pixel_aspect: tuple[int, int] = (1, 1)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Return the (height, width) of a decoded frame in pixels, turned upright."""
        return (self.width, self.height) if self.rotation % 2 else (self.height, self.width)

    @property
    def upright_pixel_aspect(self) -> float:
        """Return the ratio of width to height of a pixel of an upright frame."""
        wide, high = self.pixel_aspect
        return high / wide if self.rotation % 2 else wide / high

    @property
    def shown_size(self) -> tuple[int, int]:
        """Return the (height, width) of an upright frame as shown, with pixels made square by stretching one side."""
        height, width = self.upright_size
        aspect = self.upright_pixel_aspect
        return (height, round(width * aspect)) if aspect >= 1 else (round(height / aspect), width)

    @property
    def has_palette(self) -> bool:
        """Return whether frames store indices into a palette. FFmpeg provides the palette only where it changes, and
        not again after a jump, so frames would be black or in another frame's colours. Such a video is read from its
        beginning.
        """
        return self.colours is not None and self.colours.pix_fmt == "pal8"

    @property
    def numbered(self) -> bool:
        """Return whether each frame's presentation time is its own and was stored with it, so that any decoder finds
        it.
        """
        if self.pts is None or self.order is not None or self.has_palette:
            return False
        return not bool((np.diff(self.pts) == 0).any())

    @cached_property
    def times(self) -> np.ndarray:
        """Return float64 [frames]: seconds at which each frame is shown, from 0."""
        if self.pts is None:
            return np.arange(self.frames) / self.fps
        return (self.pts - self.pts[0]) * self.time_base


def probe(data: bytes, limits: Limits | None = None) -> VideoMetadata:
    """Read a video's metadata and frame table from its bytes.

    Nothing is decoded where the packets prove the order of frames; elsewhere, such as in AVI with B-frames, the file is
    decoded once (see :mod:`fastvid.video.frame_table`), and a process remembers what came out.

    Args:
        data: the whole file.
        limits: limits beyond which a video is refused; default :class:`Limits`.

    Returns:
        The :class:`VideoMetadata`.

    Raises:
        DecodeError: not a supported container, no video stream, cut short (see
            :func:`fastvid.video.completeness.why_incomplete`), no frames, or larger than the limits.
    """
    limits = limits or Limits()
    limits.check(size=len(data))
    if is_pictures(data):
        return _probe_pictures(data, limits)
    try:
        return _probe(data, limits)
    except DecodeError as error:
        if error.reason in ("container", "no_video", "corrupt", "frame_count") and (missing := missing_bytes(data)):
            raise _truncated(data, missing) from error
        raise


def check_complete(data: bytes, info: VideoMetadata) -> None:
    """Raise DecodeError ``truncated`` when a file, whose metadata was read before, is cut short.

    Raises:
        DecodeError: ``truncated``; ``container`` for what is not a video file.
    """
    if is_pictures(data):
        return  # these are not looked for in a file: its checksum says whether it is whole
    if missing_bytes(data) and probe(data).frames < info.frames:
        raise _truncated(data, missing_bytes(data))


def check_size(width: int, height: int, index: int, info: VideoMetadata) -> None:
    """Raise DecodeError ``corrupt`` when a decoded frame, not yet turned, has another size than the video."""
    if (width, height) != (info.width, info.height):
        raise DecodeError(
            "corrupt",
            f"frame {index} is {width} x {height} in a video of {info.width} x {info.height}, and frames of several "
            "sizes make no clip: `python -m fastvid.data pack --transcode` scales them to one",
        )


def _truncated(data: bytes, missing: int) -> DecodeError:
    return DecodeError("truncated", missing_sentence(data, missing))


def _probe(data: bytes, limits: Limits) -> VideoMetadata:
    container, stream = open_video(data)
    with container:
        codec = stream.codec_context
        limits.check(width=codec.width, height=codec.height)
        if container.format.name != "avi" or is_count(stream.frames):  # else both are made up: the table counts
            limits.check(frames=stream.frames, seconds=(container.duration or 0) / av.time_base)
        table = read_table(container, stream, limits)
        # Between the pieces of an edit list, reordered frames can stand otherwise than their times say.
        if table is None or (codec.codec.reorder and has_several_edits(data)):
            table = _decoded_table(data, limits)
        rotation = _rotation(data)
        info = with_table(_bare(stream, rotation), table, float(stream.average_rate or stream.guessed_rate or 0))
        limits.check(seconds=info.duration)
        if reason := why_incomplete(data, container, stream, table):
            raise DecodeError("truncated", reason)
        return info


def _probe_pictures(data: bytes, limits: Limits) -> VideoMetadata:
    archive = open_pictures(data)
    frames = len(archive.pictures)
    limits.check(frames=frames, seconds=frames / archive.fps)
    width, height = picture_size(archive.pictures[0][1], 0, limits)
    return VideoMetadata(
        codec=PICTURES, width=width, height=height, rotation=0, frames=frames, fps=archive.fps,
        duration=frames / archive.fps, pts=None, time_base=1 / archive.fps, keyframes=np.empty((0, 2), dtype=np.int64),
    )  # fmt: skip


def _decoded_table(data: bytes, limits: Limits) -> FrameTable:
    name = hashlib.blake2b(data, digest_size=16).digest()
    with _decoded_tables_lock:
        table = _decoded_tables.get(name)
    if table is None:
        table = decode_table(data, limits)
        with _decoded_tables_lock:
            while len(_decoded_tables) >= _MOST_REMEMBERED:
                del _decoded_tables[next(iter(_decoded_tables))]
            _decoded_tables[name] = table
    limits.check(frames=table.frames)
    return table


def _rotation(data: bytes) -> int:
    """Return the quarter turns of the display matrix, which FFmpeg provides with decoded frames only."""
    if not may_be_rotated(data):
        return 0
    container, stream = open_video(data)
    with container:
        try:
            return round(next(container.decode(stream)).rotation / 90) % 4
        except (StopIteration, av.error.FFmpegError) as error:
            raise DecodeError("corrupt", f"the first frame does not decode: {first_line(error)}") from error


def with_table(info: VideoMetadata, table: FrameTable, rate: float = 0.0) -> VideoMetadata:
    """Return a video's metadata with another frame table; ``rate``, frames per second, is for one without times."""
    rate = rate or 25.0
    duration = table.frames / rate
    if table.pts is not None:
        span = float(table.pts[-1] - table.pts[0] + table.last_duration) * info.time_base
        if span > 0:
            duration, rate = span, table.frames / span
    return replace(
        info,
        frames=table.frames,
        fps=rate,
        duration=duration,
        pts=table.pts,
        keyframes=table.keyframes,
        order=table.order,
    )


def _bare(stream: av.VideoStream, rotation: int) -> VideoMetadata:
    """Return the metadata without a frame table."""
    codec = stream.codec_context
    return VideoMetadata(
        codec=codec.codec.canonical_name,
        width=codec.width,
        height=codec.height,
        rotation=rotation,
        frames=0,
        fps=0.0,
        duration=0.0,
        pts=None,
        time_base=float(stream.time_base or 0),
        keyframes=np.empty((0, 2), dtype=np.int64),
        colours=_colours(codec),
        pixel_aspect=_pixel_aspect(stream),
    )


def _pixel_aspect(stream: av.VideoStream) -> tuple[int, int]:
    aspect = stream.sample_aspect_ratio
    return (1, 1) if aspect is None else sane_pixel_aspect(aspect.numerator, aspect.denominator)


@functools.cache  # a data set says each of its ratios once
def sane_pixel_aspect(wide: int, high: int) -> tuple[int, int]:
    """Return the width to height of a pixel that a file states. It is square where the file states none, or an
    implausible one: negative, or beyond 8 to either side, which is logged.
    """
    if 0 < wide <= _LONGEST_PIXEL * high and high <= _LONGEST_PIXEL * wide:
        return wide, high
    if wide and high:
        log.warning("pixels of %d to %d make no sense: they are taken as square", wide, high)
    return 1, 1


def colours_of(data: bytes) -> Colours:
    """Return a video's :class:`Colours`, from its bytes.

    Raises:
        DecodeError: ``container``, ``no_video`` or ``codec``.
    """
    container, stream = open_video(data)
    with container:
        return _colours(stream.codec_context)


def _colours(codec) -> Colours:
    pix_fmt = codec.pix_fmt or ""
    return Colours(pix_fmt, int(codec.colorspace), int(codec.color_range) == 2 or pix_fmt.startswith("yuvj"))
