"""Reading of what the views of a sample need: its whole file, or of single pictures those that are shown."""

from collections.abc import Callable

from fastvid.data.source import Source, frames_of, read_video
from fastvid.video import Limits, VideoMetadata, View
from fastvid.video.picture_archive import PICTURES


def read_views(
    source: Source, index: int, limits: Limits, draw: Callable[[VideoMetadata], list[View]], whole: bool = False
) -> tuple[bytes, VideoMetadata, list[View]]:
    """Read a sample and draw its views.

    Args:
        source: the samples.
        index: which one.
        limits: what is refused.
        draw: draws the views of a video.
        whole: whether all frames are needed, whatever is shown.

    Returns:
        (the file, or those of its frames that are shown; its frame table; its views).

    Raises:
        DecodeError: it cannot be used.
    """
    info = source.samples[index].video
    if not whole and info is not None and info.codec == PICTURES:
        limits.check(width=info.width, height=info.height, frames=info.frames, seconds=info.duration)
        views = draw(info)
        data = frames_of(source, index, sorted({frame for view in views for frame in view.frames}))
        if data is not None:
            return data, info, views
    data, info = read_video(source, index, limits)
    return data, info, draw(info)
