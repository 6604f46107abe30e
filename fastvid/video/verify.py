"""Whether a video decodes from its first frame to its last."""

import av

from fastvid.video.errors import DecodeError
from fastvid.video.probe import VideoInfo, first_line, open_video


def verify(data: bytes, info: VideoInfo) -> None:
    """Decodes every frame of a video and throws it away; memory for a few frames.

    Args:
        data: the whole file.
        info: its :func:`fastvid.video.probe`.

    Raises:
        DecodeError: ``corrupt`` or ``frame_count``, with the frame it stopped at.
    """
    container, stream = open_video(data)
    count = 0
    with container:
        try:
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise DecodeError("corrupt", f"the decoder flagged frame {count} of {info.frames} as damaged")
                if (frame.width, frame.height) != (info.width, info.height):
                    raise DecodeError(
                        "corrupt",
                        f"frame {count} is {frame.width} x {frame.height} in a video of {info.width} x {info.height}",
                    )
                count += 1
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(
                "corrupt", f"the decoder stopped at frame {count} of {info.frames}: {first_line(error)}"
            ) from error
    if count != info.frames:
        raise DecodeError("frame_count", f"{count} frames decode and the file lists {info.frames}")
