"""Frames by torchcodec, on the CPU and on a GPU.

torchcodec finds frames with a scan of its own (seek mode "exact"). What it finds is held against the presentation times
of our frame table, so a frame that is not the one asked for is never handed out.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastvid.video.container import check_complete
from fastvid.video.errors import DecodeError
from fastvid.video.probe import VideoInfo, first_line

if TYPE_CHECKING:
    import torch


def read_frames(data: bytes, indices: Sequence[int], info: VideoInfo) -> Iterator[np.ndarray]:
    """Yields the frames at ascending indices, upright, uint8 [H, W, 3], bit for bit those of PyAV.

    Raises:
        DecodeError: the file cannot be used; ``unsupported`` where frames have no presentation times of their own.
    """
    decoder = _open(data, info, "cpu")
    for index in indices:
        yield _frame(decoder, index, info).numpy()


def decode_on_gpu(data: bytes, indices: Sequence[int], info: VideoInfo, device: "torch.device") -> "torch.Tensor":
    """Decodes frames at ascending indices with NVDEC: uint8 [len(indices), H, W, 3], upright, on ``device``.

    Raises:
        DecodeError: the file cannot be used; ``unsupported`` where torchcodec would have decoded it on the CPU instead.
    """
    import torch

    _disable_nvdec_cache()
    decoder = _open(data, info, str(device))
    frames = torch.stack([_frame(decoder, index, info) for index in indices])
    # Known for certain only after decoding. torchcodec warns of nothing, and the frames would still be on the GPU.
    if decoder.cpu_fallback:
        raise DecodeError(
            "unsupported", f"NVDEC does not take it: {first_line(RuntimeError(str(decoder.cpu_fallback)))}"
        )
    return frames


@functools.cache
def _disable_nvdec_cache() -> None:
    """NVDEC decoders that torchcodec keeps are found again by coded size, and cut with the first video's crop: a video
    of 530 rows after one of 532 came out shifted, without an error (pytorch/torchcodec issue 1704)."""
    from torchcodec.decoders import set_nvdec_cache_capacity

    set_nvdec_cache_capacity(0)


def _open(data: bytes, info: VideoInfo, device: str):
    from torchcodec.decoders import VideoDecoder

    if info.pts is None or (np.diff(info.pts) == 0).any():
        raise DecodeError("unsupported", "torchcodec needs a presentation time of its own for each frame; use pyav")
    check_complete(data)  # also refuses playlists and whatever else is no video container
    try:
        decoder = VideoDecoder(data, dimension_order="NHWC", num_ffmpeg_threads=1, device=device, seek_mode="exact")
        found = len(decoder)
    except (RuntimeError, ValueError, IndexError) as error:
        _raise_if_the_gpu_failed(error)
        raise DecodeError("corrupt", f"torchcodec cannot open it: {first_line(error)}") from error
    if found != info.frames:
        raise DecodeError("frame_count", f"torchcodec finds {found} frames where the frame table has {info.frames}")
    return decoder


def _frame(decoder, index: int, info: VideoInfo) -> "torch.Tensor":
    assert info.pts is not None  # _open has made sure
    try:
        frame = decoder.get_frame_at(int(index))
    except (RuntimeError, ValueError, IndexError) as error:
        _raise_if_the_gpu_failed(error)
        raise DecodeError("corrupt", f"torchcodec stopped at frame {index}: {first_line(error)}") from error
    wanted = float(info.pts[index] * info.time_base)
    if abs(frame.pts_seconds - wanted) > info.time_base / 2:
        raise DecodeError(
            "unsupported",
            f"torchcodec shows frame {index} at {frame.pts_seconds:.6f} s and not {wanted:.6f} s; use pyav",
        )
    if tuple(frame.data.shape[:2]) != info.upright_size:
        height, width = frame.data.shape[:2]
        raise DecodeError("corrupt", f"a frame is {width} x {height} in a video of {info.width} x {info.height}")
    return frame.data


def _raise_if_the_gpu_failed(error: Exception) -> None:
    """A GPU out of memory or lost says nothing about the video: that error goes to the caller as it is."""
    if "CUDA error" in str(error) or "out of memory" in str(error):
        raise error
