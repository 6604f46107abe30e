"""Normalises a video, so that drawing clips from it costs little and is the same everywhere."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from fastvid.video.errors import DecodeError
from fastvid.video.ffmpeg import first_line, open_video
from fastvid.video.frame_table import decoded_frames
from fastvid.video.limits import Limits
from fastvid.video.probe import VideoMetadata, probe
from fastvid.video.x264 import x264_params

_MOST_FRAMES = 1_000_000  # of one output
_TURNS = {1: "transpose=cclock", 2: "hflip,vflip", 3: "transpose=clock"}  # by quarter turns, counter-clockwise


@dataclass(frozen=True)
class Normalisation:
    """The output format of :func:`transcode`.

    Attributes:
        short_side: shorter side of the frames in pixels, even; a smaller video keeps its size.
        fps: frames per second; None takes the source's average rate, rounded.
        crf: x264's quality, lower is better and larger.
        gop: frames from one key frame to the next; every group can be decoded alone.
    """

    short_side: int = 256
    fps: int | None = None
    crf: int = 23
    gop: int = 12

    def __post_init__(self):
        if self.short_side < 2 or self.short_side % 2:
            raise ValueError(f"the short side must be even and at least 2; got {self.short_side}")
        if self.fps is not None and not 1 <= self.fps <= 1000:
            raise ValueError(f"fps must be in [1, 1000]; got {self.fps}")

    def rate(self, info: VideoMetadata) -> int:
        """Return the number of frames per second of the result."""
        return self.fps or min(max(1, round(info.fps)), 1000)

    def size(self, info: VideoMetadata) -> tuple[int, int]:
        """Return (height, width) of the result: upright, even, and with square pixels, of which there are no more to
        either side than the source has unless its pixels are wide."""
        height, width = info.shown_size
        scale = min(1.0, self.short_side / min(height, width))
        return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


def transcode(
    data: bytes, normal: Normalisation | None = None, *, info: VideoMetadata | None = None, limits: Limits | None = None
) -> bytes:
    """Encode a video anew: constant frame rate, closed groups, H.264 yuv420p, upright, even sizes, no audio, mp4 with
    the index in front.

    The rule for frames: source frame i, shown at t_i seconds from the first, begins at output frame
    ``round(t_i * fps)`` and stays until the next one begins; of several that begin at one output frame the last is
    taken. The result has ``max(1, round(duration * fps))`` frames, halves rounded upwards, and a source frame that
    would begin after them begins at the last, so that the end is never lost. One source frame is held at a time.

    Where the size of the frames changes on the way, all are scaled to what the header's size gives, as FFmpeg does it.

    Alpha is dropped, not blended, as :func:`fastvid.video.decode` does. Samples of 10 bits are reduced to 8. Whatever
    the source says of its YUV, the result has BT.601's matrix and the levels of video (16-235), and says so; primaries
    and transfer curve are not touched. Both therefore decode to the same RGB.

    Args:
        data: the whole file.
        normal: form to transcode to.
        info: the file's :func:`fastvid.video.probe`, if at hand.
        limits: limits beyond which a video is refused; default :class:`Limits`.

    Returns:
        The mp4's bytes: the same for the same input, for one version of PyAV.

    Raises:
        DecodeError: the source cannot be decoded to its end, or would have too many frames at this rate.
    """
    normal = normal or Normalisation()
    info = info or probe(data, limits)
    starts, count = _starts(info, normal.rate(info))
    file = io.BytesIO()
    try:
        # The index is moved to the front by reading back what was written.
        with av.open(
            file,
            "w",
            format="mp4",
            options={"movflags": "+faststart", "fflags": "+bitexact"},
            io_open=lambda url, flags, options: io.BytesIO(file.getvalue()),
        ) as out:
            stream = _h264_stream(out, normal, info)
            for position, frame in _resampled(_scaled(data, info, normal), starts, count):
                frame.pts, frame.time_base = position, Fraction(1, normal.rate(info))
                frame.pict_type = av.video.frame.PictureType.NONE  # the source's key frames are not ours
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    except av.error.FFmpegError as error:
        raise DecodeError("corrupt", f"encoding it anew failed: {first_line(error)}") from error
    return file.getvalue()


def _starts(info: VideoMetadata, rate: int) -> tuple[np.ndarray, int]:
    """Return the output frame at which each source frame begins, and the number of output frames."""
    count = info.duration * rate
    if count > _MOST_FRAMES:
        raise DecodeError("limit", f"{count:g} frames at {rate} a second; the limit is {_MOST_FRAMES}")
    frames = max(1, int(count + 0.5))
    return np.minimum(np.floor(info.times * rate + 0.5).astype(np.int64), frames - 1), frames


def _resampled(frames: Iterator[av.VideoFrame], starts: np.ndarray, count: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (output frame, its picture), in order."""
    held, seen = None, 0
    for frame in frames:
        if seen == len(starts):
            raise DecodeError("frame_count", f"more frames decode than the {len(starts)} that the file lists")
        if held is not None:
            for position in range(int(starts[seen - 1]), int(starts[seen])):
                yield position, held
        held, seen = frame, seen + 1
    if seen != len(starts) or held is None:
        raise DecodeError("frame_count", f"{seen} frames decode and the file lists {len(starts)}")
    for position in range(int(starts[-1]), count):
        yield position, held


def _scaled(data: bytes, info: VideoMetadata, normal: Normalisation) -> Iterator[av.VideoFrame]:
    """Yield decoded frames, upright, at the new size, yuv420p."""
    container, stream = open_video(data)
    graph, made_for = None, None
    with container:
        try:
            for index, frame in enumerate(decoded_frames(container, stream)):
                if graph is None or (frame.width, frame.height, frame.format.name) != made_for:
                    graph, made_for = _graph(frame, info, normal), (frame.width, frame.height, frame.format.name)
                frame.pts = index
                graph.push(frame)
                scaled = graph.pull()
                assert isinstance(scaled, av.VideoFrame)
                yield scaled
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError("corrupt", f"the decoder stopped: {first_line(error)}") from error


def _graph(frame: av.VideoFrame, info: VideoMetadata, normal: Normalisation) -> av.filter.Graph:
    height, width = normal.size(info)
    graph = av.filter.Graph()
    graph.threads = 1
    nodes = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000), name="source"
        )
    ]
    for step in filter(None, _TURNS.get(info.rotation, "").split(",")):
        name, _, arguments = step.partition("=")
        nodes.append(graph.add(name, arguments))
    nodes.append(
        graph.add("scale", f"w={width}:h={height}:flags=area+accurate_rnd:out_range=limited:out_color_matrix=bt601")
    )
    nodes.append(graph.add("format", "pix_fmts=yuv420p"))
    nodes.append(graph.add("setsar", "1"))
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    return graph


def _h264_stream(out: av.container.OutputContainer, normal: Normalisation, info: VideoMetadata) -> av.VideoStream:
    stream = out.add_stream("libx264", rate=normal.rate(info))
    assert isinstance(stream, av.VideoStream)
    stream.height, stream.width = normal.size(info)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1  # several threads may cut the picture differently
    stream.options = {
        "crf": str(normal.crf),
        "preset": "veryfast",
        "g": str(normal.gop),
        "keyint_min": str(normal.gop),
        "sc_threshold": "0",
        "flags": "+cgop",
        "x264-params": x264_params("colormatrix=smpte170m", "range=tv"),
    }
    return stream
