"""Latents of a clip's frames, out of what is stored of all frames of its video."""

import io
from collections.abc import Sequence

import numpy as np

from fastvid.data.source import Source, latents_of
from fastvid.video import DecodeError


def clip_latents(source: Source, index: int, frames: Sequence[int], stored: int, whole: bool) -> np.ndarray:
    """Read the stored latents of some frames of a sample, float16 [T, C, h, w].

    Args:
        source: the samples.
        index: which one.
        frames: numbers of the frames.
        stored: frames that the video has.
        whole: whether the clip shows these whole and not mirrored.

    Raises:
        DecodeError: there are none, or they are not of this clip.
    """
    data = latents_of(source, index)
    if data is None:
        raise DecodeError("read", "no latents are stored beside it: they were asked for")
    if not whole:
        raise DecodeError("read", "its latents are of whole frames, and the clip shows a part or is mirrored")
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DecodeError("corrupt", f"its latents are no .npy file: {error}") from error
    if values.ndim != 4 or values.dtype.kind != "f" or len(values) != stored:
        raise DecodeError("corrupt", f"its latents are {values.dtype} {list(values.shape)} of {stored} frames")
    return values[list(frames)].astype(np.float16)
