"""Frames of a video by index, exact by presentation time."""

from collections.abc import Iterator, Sequence

import numpy as np

from fastvid.video.decoders import frame_reader
from fastvid.video.limits import Limits
from fastvid.video.probe import VideoMetadata, probe


def decode(
    data: bytes,
    indices: Sequence[int],
    *,
    info: VideoMetadata | None = None,
    limits: Limits | None = None,
    decoder: str = "pyav",
) -> np.ndarray:
    """Decode the frames of a video at the given indices.

    The video is opened from its bytes, never from a path or URL, so nothing in it can make FFmpeg open another file.
    Index i means the i-th frame in the order shown: frames are found by presentation time, which is exact where frame
    rates vary, where frames are reordered, and after edit lists. Pixels are FFmpeg's, at the native size, converted to
    RGB and turned upright as the file's rotation metadata asks.

    Args:
        data: the whole file: H.264, HEVC, VP8, VP9, AV1 or another codec of the installed PyAV, in mp4, mov, mkv, webm
            or avi.
        indices: frames wanted, in [0, frames), in any order, repeats allowed.
        info: the file's :func:`probe`, if at hand.
        limits: limits beyond which a video is refused; default :class:`Limits`.
        decoder: ``"pyav"`` or ``"torchcodec"``; the frames are the same.

    Returns:
        uint8 [len(indices), H, W, 3].

    Raises:
        DecodeError: the file cannot be used; see its ``reason``.
        IndexError: an index outside [0, frames).
        DecoderUnavailable: the decoder cannot run here.

    Example:
        >>> clip = decode(Path("a.mp4").read_bytes(), range(0, 64, 4))
    """
    info = info or probe(data, limits)
    out: np.ndarray | None = None
    for position, frame in iter_frames(data, indices, info=info, decoder=decoder):
        if out is None:
            out = np.empty((len(indices), *frame.shape), np.uint8)
        out[position] = frame
    return np.empty((0, info.height, info.width, 3), np.uint8) if out is None else out


def iter_frames(
    data: bytes, indices: Sequence[int], *, info: VideoMetadata, decoder: str = "pyav"
) -> Iterator[tuple[int, np.ndarray]]:
    """Decode like :func:`decode`, one frame at a time: yield (position in ``indices``, uint8 [H, W, 3]) in order of
    time.

    Memory stays at one frame, whatever the clip's length. The same array is yielded for each repeat of an index.
    """
    positions: dict[int, list[int]] = {}
    for position, index in enumerate(indices):
        if not 0 <= index < info.frames:
            raise IndexError(f"frame {index} of a video with {info.frames} frames")
        positions.setdefault(int(index), []).append(position)
    read_frames = frame_reader(decoder)
    if not positions:
        return
    wanted = sorted(positions)
    for index, frame in zip(wanted, read_frames(data, wanted, info), strict=True):
        for position in positions[index]:
            yield position, frame
