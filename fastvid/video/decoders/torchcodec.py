"""Frames by torchcodec, on the CPU and on a GPU.

torchcodec finds frames with a scan of its own (seek mode "exact"). What it finds is held against the presentation times
of our frame table, so a frame that is not the one asked for is never handed out.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastvid.video.container import container_format
from fastvid.video.decoders import pyav
from fastvid.video.errors import DecodeError
from fastvid.video.ffmpeg import first_line
from fastvid.video.probe import VideoMetadata, check_complete, check_size

if TYPE_CHECKING:
    import torch


def read_frames(data: bytes, indices: Sequence[int], info: VideoMetadata) -> Iterator[np.ndarray]:
    """Yield the frames at ascending indices, upright, uint8 [H, W, 3], bit for bit those of PyAV.

    torchcodec numbers frames by their presentation times. Where the file stores none, as AVI does, PyAV reads it.

    Raises:
        DecodeError: the file cannot be used.
    """
    if not info.numbered or container_format(data) == "avi":
        yield from pyav.read_frames(data, indices, info)
        return
    for frame in _frames(data, indices, info, "cpu"):
        yield frame.numpy()


def decode_on_gpu(data: bytes, indices: Sequence[int], info: VideoMetadata, device: "torch.device") -> "torch.Tensor":
    """Decode frames at ascending indices with NVDEC: uint8 [len(indices), H, W, 3], upright, on ``device``.

    Raises:
        DecodeError: the file cannot be used; ``unsupported`` where torchcodec would have decoded it on the CPU instead.
    """
    import torch

    _disable_nvdec_cache()
    return torch.stack(list(_frames(data, indices, info, str(device))))


@functools.cache
def _disable_nvdec_cache() -> None:
    """Disable torchcodec's cache of NVDEC decoders. torchcodec 0.17 finds them again by coded size, and crops with
    the first video's crop: a video of 530 rows after one of 532 comes out damaged, without an error
    (meta-pytorch/torchcodec issue 1704).
    """
    from torchcodec.decoders import set_nvdec_cache_capacity

    set_nvdec_cache_capacity(0)


def _frames(data: bytes, indices: Sequence[int], info: VideoMetadata, device: str) -> Iterator["torch.Tensor"]:
    decoder = _open(data, info, device)
    for index in indices:
        try:
            frame = _frame(decoder, index, info)
        except DecodeError as error:
            if error.reason != "corrupt":
                raise
            # FFmpeg 5 does not find its way from some key frames of open GOPs; from the beginning it does.
            decoder = _open(data, info, device)
            for before in range(index):
                _frame(decoder, before, info)
            frame = _frame(decoder, index, info)
        # Known for certain only after decoding. Nothing warns of it: the frames would be on the GPU all the same.
        if device != "cpu" and decoder.cpu_fallback:
            reason = str(decoder.cpu_fallback).splitlines()[0]
            raise DecodeError("unsupported", f"NVDEC does not take it ({reason}); use pyav")
        yield frame


def _open(data: bytes, info: VideoMetadata, device: str):
    check_complete(data, info)  # also refuses playlists and whatever else is not a video container
    if container_format(data) == "avi" or not info.numbered:
        raise DecodeError("unsupported", "torchcodec needs a presentation time of its own for each frame; use pyav")
    from torchcodec.decoders import VideoDecoder

    try:
        decoder = VideoDecoder(data, dimension_order="NHWC", num_ffmpeg_threads=1, device=device, seek_mode="exact")
        found = len(decoder)
    except (RuntimeError, ValueError, IndexError) as error:
        raise_if_the_gpu_failed(error)
        raise DecodeError("corrupt", f"torchcodec cannot open it: {first_line(error)}") from error
    if found != info.frames:
        raise DecodeError("frame_count", f"torchcodec finds {found} frames where the frame table has {info.frames}")
    return decoder


def _frame(decoder, index: int, info: VideoMetadata) -> "torch.Tensor":
    assert info.pts is not None  # _open has made sure
    try:
        frame = decoder.get_frame_at(int(index))
    except (RuntimeError, ValueError, IndexError) as error:
        raise_if_the_gpu_failed(error)
        raise DecodeError("corrupt", f"torchcodec stopped at frame {index}: {first_line(error)}") from error
    seen, wanted = frame.pts_seconds, float(info.pts[index] * info.time_base)
    if abs(seen - wanted) > info.time_base / 2:
        raise DecodeError(
            "unsupported", f"torchcodec shows frame {index} at {seen:.4f} s, not {wanted:.4f} s; use pyav"
        )
    height, width = frame.data.shape[:2]
    check_size(*((height, width) if info.rotation % 2 else (width, height)), index, info)
    return frame.data


def raise_if_the_gpu_failed(error: Exception) -> None:
    """Raise errors of the GPU: one that is out of memory or lost says nothing about the video."""
    text = f"{error} {error.__cause__ or ''}"
    if any(words in text for words in ("CUDA error", "CUDA runtime API error", "cudaError", "out of memory")):
        raise error
