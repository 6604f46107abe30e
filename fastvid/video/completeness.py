"""Check that a video holds all the frames that its container announces.

FFmpeg reads to the end of a cut file without complaint. Where the container cannot tell, as in a live recording without
sizes and durations, what decodes is all there is.
"""

import av

from fastvid.video.avi import is_count, picture_chunks, stated_frames
from fastvid.video.container import container_format, is_fragmented, missing_bytes, stated_fragments
from fastvid.video.ffmpeg import open_video
from fastvid.video.frame_table import FrameTable
from fastvid.video.matroska import matroska_extent, tagged_end

# Headers that only estimate are often a little off. Where sizes do not prove that bytes are missing, they say that
# frames are when this share of them is not there.
_FAR_SHORT = 0.1
_REMEDY = "copy it again, or, to use what is there, write it anew with `ffmpeg -i IN -c copy OUT`"


def why_incomplete(
    data: bytes, container: av.container.InputContainer, stream: av.VideoStream, table: FrameTable
) -> str:
    """Describe what is missing of a video, or return "" where all its frames are there as far as its container tells.

    Lost audio, indexes and tags are nothing to a video. Frames are missing where the container declares bytes that are
    not there, unless it also says that no picture was in them; and where it declares no sizes, if it announces far more
    frames or seconds than there are.

    Args:
        data: the whole file.
        container: it, opened.
        stream: its video stream.
        table: the frames that are there.
    """
    if missing := missing_bytes(data):
        if _has_all_frames(data, container, stream, table):
            return ""
        return missing_sentence(data, missing)
    if container_format(data) == "avi":
        stated, there = stated_frames(data), table.frames
        if _is_far_short(there, stated) and _is_far_short(there := picture_chunks(data, stream.index), stated):
            return f"the header announces {stated} frames and {there} are there: {_REMEDY}"
        return ""
    seconds = _stated_seconds(data, container)
    if _is_far_short(_end(stream, table) or 0.0, seconds) and _is_far_short(end := _last_end(data), seconds):
        return f"the header announces {seconds:.1f} seconds and {end:.1f} are there: {_REMEDY}"
    return ""


def missing_sentence(data: bytes, missing: int) -> str:
    """Describe how many bytes are missing of a file, and what to do."""
    return f"the container declares {len(data) + missing} bytes and {missing} of them are missing: {_REMEDY}"


def _has_all_frames(
    data: bytes, container: av.container.InputContainer, stream: av.VideoStream, table: FrameTable
) -> bool:
    """Return whether all frames that the header announces are there, though bytes are missing."""
    name = container_format(data)
    if name == "mov":  # a fragmented file announces no more frames than the fragments that are there
        return 0 < stream.frames <= table.frames and not is_fragmented(data)
    if name == "avi":
        return is_count(stream.frames) and stream.frames <= max(table.frames, picture_chunks(data, stream.index))
    end, stated = _end(stream, table), (container.duration or 0) / av.time_base
    if end is None:
        return False
    half = float(table.last_duration * (stream.time_base or 0)) / 2 or 0.001
    if (tagged := tagged_end(stream.metadata)) is not None:
        return end >= tagged - half
    if not stated:
        return False
    # Another stream may be the longer one; it tells of the pictures only if no piece with pictures is cut.
    return end >= stated - half or (matroska_extent(data).pictures <= len(data) and _last_end(data) >= stated - half)


def _stated_seconds(data: bytes, container: av.container.InputContainer) -> float:
    """Return how long a file without sizes is to be; 0 where it has them, or does not say."""
    if container_format(data) == "mov":
        return stated_fragments(data) if is_fragmented(data) else 0.0
    return (container.duration or 0) / av.time_base if matroska_extent(data).open else 0.0


def _is_far_short(there: float, stated: float) -> bool:
    return there < stated * (1 - _FAR_SHORT)


def _end(stream: av.VideoStream, table: FrameTable) -> float | None:
    """Return when the last frame ends, in seconds on the file's own clock."""
    if table.pts is None or stream.time_base is None:
        return None
    return float((int(table.pts[-1]) + table.last_duration) * stream.time_base)


def _last_end(data: bytes) -> float:
    """Return when the last packet of any stream ends, in seconds on the file's own clock."""
    container, _ = open_video(data)
    with container:
        return max(
            (
                float((p.pts + (p.duration or 0)) * p.time_base)
                for p in container.demux()
                if p.pts is not None and p.size
            ),
            default=0.0,
        )
