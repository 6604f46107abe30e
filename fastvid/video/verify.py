"""Verification that a video decodes from first frame to last, and that seeking returns the same frames."""

import numpy as np

from fastvid.video.decoders.pyav import key_frames, read_frames
from fastvid.video.errors import DecodeError
from fastvid.video.ffmpeg import open_video
from fastvid.video.frame_table import decoded_frames, is_key, table_of
from fastvid.video.limits import Limits
from fastvid.video.picture_archive import PICTURES
from fastvid.video.probe import VideoMetadata, check_size, with_table

_COMPARED = 4  # frames of a video that are read by a jump, as training reads them


def verify(data: bytes, info: VideoMetadata) -> None:
    """Decode every frame of a video, and compare some with what training would read. Memory: a few frames.

    Args:
        data: the whole file.
        info: its frame table, from :func:`fastvid.video.probe` or an index.

    Raises:
        DecodeError: ``corrupt`` or ``frame_count``, with the frame it stopped at.
    """
    if info.codec == PICTURES:
        for _ in read_frames(data, range(info.frames), info):
            pass  # each is a file of its own: none depends on another, or on a jump
        return
    shown, compared = _read_through(data, info)
    if len(shown) != info.frames:
        raise DecodeError("frame_count", f"{len(shown)} frames decode and its frame table lists {info.frames}")
    stored = info.pts if info.order is None else info.order
    if stored is not None and [time for time, _ in shown] != stored.tolist():
        raise DecodeError("frame_count", "frames are decoded in another order than its frame table says")
    for index, frame in compared.items():  # each from a new reader, which jumps where it can
        if not np.array_equal(next(iter(read_frames(data, [index], info))), frame):
            raise DecodeError("corrupt", f"frame {index} of {info.frames} is another one when it is read by itself")


def verified_metadata(data: bytes, info: VideoMetadata) -> VideoMetadata:
    """Verify a video, and return its metadata with a frame table that holds.

    Args:
        data: the whole file.
        info: its :func:`fastvid.video.probe`.

    Returns:
        The metadata with a frame table by which every frame is the one that sequential decoding gives.

    Raises:
        DecodeError: it does not decode from beginning to end.
    """
    try:
        verify(data, info)
        return info
    except DecodeError as error:
        if error.reason not in ("frame_count", "corrupt") or info.codec == PICTURES:
            raise
        failed = error
    shown, _ = _read_through(data, info)  # raises what is wrong with the file itself
    for times in (shown, [(None, False)] * len(shown)):  # the last resort: frames are counted, and nothing jumps
        found = with_table(info, table_of(iter(times), data, Limits()), info.fps)
        try:
            verify(data, found)
            return found
        except DecodeError as error:
            failed = error
    raise failed


def _read_through(data: bytes, info: VideoMetadata) -> tuple[list[tuple[int | None, bool]], dict[int, np.ndarray]]:
    """Return stored timestamp and key flag of all frames in the order shown, and the pixels of a few, upright."""
    # Each shortly behind a key frame: there a jump shows whether it lands, and costs little.
    keys = key_frames(info)[0]
    some = keys[np.linspace(0, len(keys) - 1, min(_COMPARED + 1, len(keys))).round().astype(int)][1:]
    wanted = {min(int(key) + 2, info.frames - 1) for key in some}
    container, stream = open_video(data)
    shown: list[tuple[int | None, bool]] = []
    compared: dict[int, np.ndarray] = {}
    with container:
        for index, frame in enumerate(decoded_frames(container, stream)):
            check_size(frame.width, frame.height, index, info)
            shown.append((frame.pts, is_key(frame)))
            if index in wanted:
                compared[index] = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), info.rotation))
    return shown, compared
