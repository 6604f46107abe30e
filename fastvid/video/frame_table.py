"""The frame table: which packet holds the frame shown i-th, and where decoding may begin.

The order that counts is the one in which a decoder hands out frames when it reads the file from its beginning. Where a
container stores presentation times, sorting them gives that order without decoding. AVI stores none, and an mp4 or mkv
may have lost or invented them, so times that never leave the order of decoding prove something only of a stream that
does not reorder its frames. Where that is not certain the file is decoded once, and the order is what came out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from fastvid.video.errors import DecodeError
from fastvid.video.ffmpeg import first_line, open_video
from fastvid.video.limits import Limits
from fastvid.video.pictures import picture_kind

# Codecs whose frames are predicted from no other.
_INDEPENDENT = ("ffv1", "ffvhuff", "huffyuv", "jpeg2000", "ljpeg", "mjpeg", "png", "prores", "utvideo")


@dataclass(frozen=True)
class FrameTable:
    """The frames of a video in the order shown.

    Attributes:
        frames: number of frames.
        pts: int64 [frames], presentation times in the stream's time base, ascending; None when the container stores no
            times, or the same for several packets, and frames can only be counted.
        order: int64 [frames], the stored timestamp of the packet that holds each frame; None where that is ``pts``.
        keyframes: int64 [K, 2], (stored timestamp, decode timestamp) of the key frames, ascending.
        last_duration: duration of the last packet, in the stream's time base.
    """

    frames: int
    pts: np.ndarray | None
    order: np.ndarray | None
    keyframes: np.ndarray
    last_duration: int


def demux(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    """Yield a stream's packets, each with the timestamp that the container stores as its ``pts``.

    AVI stores times of decoding only, as Matroska does for codecs of Video for Windows. FFmpeg guesses presentation
    times for AVI, and guesses others after a seek. A decoder passes ``pts`` on to the frame that a packet holds.
    """
    stores_dts = container.format.name == "avi"
    for packet in container.demux(stream):
        if stores_dts or packet.pts is None:
            packet.pts = packet.dts
        yield packet


def decoded_frames(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Yield a stream's frames in the order shown, each with the stored timestamp of its packet as its ``pts``.

    Raises:
        DecodeError: ``corrupt``, with the number of frames before it.
    """
    count = 0
    try:
        for packet in demux(container, stream):
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise DecodeError("corrupt", f"the decoder flagged frame {count} as damaged")
                yield frame
                count += 1
    except (av.error.FFmpegError, ValueError) as error:
        raise DecodeError("corrupt", f"the decoder stopped at frame {count}: {first_line(error)}") from error


def read_table(container: av.container.InputContainer, stream: av.VideoStream, limits: Limits) -> FrameTable | None:
    """Read the frame table from the packets, without decoding.

    Returns:
        The table; None where the packets do not prove it, and :func:`decode_table` is needed.

    Raises:
        DecodeError: ``corrupt``, ``frame_count`` or ``limit``.
    """
    name = stream.codec_context.codec.canonical_name  # codec.name is the decoder's, such as libdav1d for av1
    times: list[int | None] = []
    keys: list[tuple[int, int]] = []
    first: int | None = None  # stored timestamp of the first packet
    begins_with_a_key_frame = True
    may_reorder = _ReorderCheck(container, stream)
    extradata = bytes(stream.codec_context.extradata or b"")
    # In a codec that predicts frames from each other, key frames everywhere may mean that the list of them is lost.
    predicts = not (stream.codec_context.codec.intra_only or name in _INDEPENDENT)
    all_intra = True  # as the packets themselves say
    last_duration = 0
    try:
        for packet in demux(container, stream):
            if packet.is_corrupt:
                raise DecodeError("corrupt", f"the packet after {len(times)} frames is cut short")
            # Flushing and edit lists produce packets that show nothing; so do VP8's hidden reference frames.
            if packet.size and not packet.is_discard and (name != "vp8" or bytes(packet)[0] & 0x10):
                times.append(packet.pts)
                if packet.is_keyframe and packet.pts is not None:
                    keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
                if predicts and all_intra and len(keys) == len(times):
                    all_intra = picture_kind(name, extradata, bytes(packet)) == "intra"
                last_duration = packet.duration or last_duration
                if len(times) > limits.frames:
                    limits.check(frames=len(times))
            if packet.size and packet.pts is not None:
                if first is None:
                    first, begins_with_a_key_frame = packet.pts, packet.is_keyframe
                # What is shown before the first key frame is predicted from frames that the file does not hold.
                begins_with_a_key_frame &= packet.pts >= first
            may_reorder.add(packet)  # last: it may take the packet's data
    except av.error.FFmpegError as error:
        raise DecodeError("corrupt", f"reading stopped after {len(times)} frames: {first_line(error)}") from error
    if not times:
        raise DecodeError("frame_count", "the video stream has no frames")
    proved = begins_with_a_key_frame and not may_reorder.in_doubt
    if any(time is None for time in times) or not proved:
        return None
    decoded = np.array(times, dtype=np.int64)
    if predicts and len(keys) == len(times) > 1 and not (all_intra and bool((np.diff(decoded) > 0).all())):
        return None
    pts = np.sort(decoded)
    return FrameTable(len(times), pts, None, _pairs(keys), last_duration)


def decode_table(data: bytes, limits: Limits) -> FrameTable:
    """Build the frame table by decoding the whole file once, with memory for a few frames.

    Raises:
        DecodeError: ``corrupt``, ``frame_count`` or ``limit``.
    """
    container, stream = open_video(data)
    with container:
        # Pixels are not looked at.
        stream.codec_context.options = {"skip_loop_filter": "all", "skip_idct": "all"}
        return table_of(((f.pts, is_key(f)) for f in decoded_frames(container, stream)), data, limits)


def table_of(shown: Iterator[tuple[int | None, bool]], data: bytes, limits: Limits) -> FrameTable:
    """Make the table of frames that were decoded in order.

    Args:
        shown: of each frame, in the order shown, its packet's stored timestamp and whether it decodes by itself.
        data: the whole file.
        limits: limits beyond which a video is refused.
    """
    order: list[int | None] = []
    independent: set[int] = set()
    for time, key in shown:
        order.append(time)
        if key and time is not None:
            independent.add(time)
        if len(order) > limits.frames:
            limits.check(frames=len(order))
    if not order:
        raise DecodeError("frame_count", "the video stream has no frames")
    keys: list[tuple[int, int]] = []
    container, stream = open_video(data)
    with container:
        last_duration = 0
        for packet in demux(container, stream):
            if packet.size and packet.is_keyframe and packet.pts in independent:
                keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
            last_duration = packet.duration or last_duration
    if any(time is None for time in order) or len(set(order)) < len(order):
        return FrameTable(len(order), None, None, _pairs([]), last_duration)
    table = np.array(order, dtype=np.int64)
    pts = np.sort(table)
    return FrameTable(
        len(order), pts, None if np.array_equal(pts, table) else table, _pairs(sorted(keys)), last_duration
    )


def is_key(frame: av.VideoFrame) -> bool:
    """Return whether a frame was coded without reference to others."""
    return bool(frame.key_frame) or frame.pict_type == av.video.frame.PictureType.I


class _ReorderCheck:
    """Check over the packets in decoding order that they prove the order in which frames are shown.

    From one key frame to the next, times that leave the order of decoding were stored by somebody who knew them, except
    in AVI, which has no place for them. Otherwise the stream itself must show that it does not reorder: H.264 and HEVC
    by their picture order counts, which FFmpeg's filter dts2pts reads, MPEG-1, MPEG-2 and MPEG-4 by having no B-frames.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream):
        codec = stream.codec_context.codec
        self.in_doubt = False  # only decoding can tell the order
        self._codec, self._stream = codec.canonical_name, stream
        self._is_avi = container.format.name == "avi"
        self._may_reorder = codec.reorder and self._codec != "h263"
        self._begin()

    def _begin(self) -> None:
        self._times_are_real = False
        self._last_time: int | None = None
        self._counts: BitStreamFilterContext | None = None
        self._last_count: int | None = None

    def add(self, packet: av.Packet) -> None:
        """Look at the next packet; its data may be taken."""
        if not self._may_reorder or self.in_doubt:
            return
        if packet.is_keyframe and packet.size and not self._is_avi:
            self._end()
            self._begin()
        if packet.size and packet.pts is not None:
            if not self._is_avi and self._last_time is not None and packet.pts < self._last_time:
                self._times_are_real = True
            self._last_time = packet.pts
        if self._times_are_real or not packet.size:
            if not packet.size:
                self._end()
        elif self._codec in ("h264", "hevc"):
            self._add_counts(packet)
        else:
            self.in_doubt = picture_kind(self._codec, b"", bytes(packet)) is None

    def _end(self) -> None:
        """Take what the filter has held back until the end of a group."""
        if self._counts is not None and not self._times_are_real:
            self._add_counts(None)

    def _add_counts(self, packet: av.Packet | None) -> None:
        if self._counts is None:
            self._counts = BitStreamFilterContext("dts2pts", self._stream)
        try:
            out = self._counts.filter(packet)
        except (av.error.FFmpegError, ValueError):  # what it cannot read proves nothing
            self.in_doubt = True
            return
        for one in out:
            if one.pts is None or (self._last_count is not None and one.pts <= self._last_count):
                self.in_doubt = True
            self._last_count = one.pts


def _pairs(keys: list[tuple[int, int]]) -> np.ndarray:
    return np.array(sorted(keys), dtype=np.int64).reshape(-1, 2)
