"""A stretch of a long video as a file of its own, without decoding: its packets are copied."""

import io
from typing import BinaryIO

import av

from fastvid.video.container import container_format
from fastvid.video.errors import DecodeError
from fastvid.video.ffmpeg import first_line


def cut(file: BinaryIO, start: float, end: float, *, slack: float) -> tuple[bytes, int]:
    """Copy the frames of an mp4 or mov that are shown from one moment to another.

    The copy begins with the last key frame at or before ``start``. Where that is an earlier frame, an edit list hides
    what comes before ``start``. Frames from ``end`` on are left out, and none in front may be predicted from these: in
    a video that was joined from pieces at these moments, none is.

    Args:
        file: the long video; only what is copied is read of its frames.
        start: first moment, seconds from its first frame.
        end: last moment, seconds; a frame that appears then is not copied.
        slack: less than half the time between two frames: moments are this much inexact.

    Returns:
        (an mp4, the number of frames that it shows).

    Raises:
        DecodeError: ``container``, ``no_video``, ``frame_count`` or ``corrupt``.
    """
    kind = container_format(file.read(64))
    if kind != "mov":
        raise DecodeError("container", "a stretch can be cut out of mp4 and mov files only")
    file.seek(0)
    out = io.BytesIO()
    shown: list[int] = []  # times of the frames that are wanted
    try:
        with av.open(file, "r", format=kind) as long, av.open(out, "w", format="mp4") as short:
            stream = long.streams.best("video")
            if not isinstance(stream, av.VideoStream) or stream.time_base is None:
                raise DecodeError("no_video", "the file has no video stream")
            copy = short.add_stream_from_template(stream)
            begin = stream.start_time or 0
            first, behind = (begin + round((moment - slack) / stream.time_base) for moment in (start, end))
            long.seek(begin + round((start + slack) / stream.time_base), stream=stream, backward=True)
            packets: list[tuple[av.Packet, int, int]] = []
            left_out = False
            for packet in long.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                if packet.dts >= behind:
                    break
                if packet.pts >= behind:
                    left_out = True
                    continue
                if left_out:  # its frame may be predicted from one that was left out, and would quietly be another
                    raise DecodeError("corrupt", f"at second {end:g} the video cannot be cut: frames reach across it")
                packets.append((packet, packet.pts, packet.dts))
                if packet.pts >= first:
                    shown.append(packet.pts)
            zero = min(shown, default=0)
            for packet, pts, dts in packets:
                packet.pts, packet.dts, packet.stream = pts - zero, dts - zero, copy
                short.mux(packet)
    except (av.error.FFmpegError, ValueError) as error:
        raise DecodeError("corrupt", f"cutting out a stretch stopped: {first_line(error)}") from error
    if not shown:
        raise DecodeError("frame_count", f"no frame is shown from second {start:g} to {end:g}")
    return out.getvalue(), len(shown)
