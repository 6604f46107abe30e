"""Opens a video from its bytes, never from a path: nothing in it can make FFmpeg open another file."""

import io

import av

from fastvid.video.container import container_format
from fastvid.video.errors import DecodeError


def open_video(data: bytes) -> tuple[av.container.InputContainer, av.VideoStream]:
    """Open a video from its bytes and select FFmpeg's best video stream. The caller closes the container.

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


def first_line(error: Exception) -> str:
    """Return FFmpeg's own message, without error numbers and function names."""
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__
