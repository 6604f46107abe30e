"""The decoders: PyAV or torchcodec on the CPU, a video at a time; DALI or torchcodec on a GPU, a batch at a time.

Importing this package imports none of them. The first two give the same frames bit for bit, so only speed is a
reason to choose; the GPU ones choose the same frames and come close in their pixels (docs/decoders.md).
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fastvid.video.probe import VideoMetadata

CPU_DECODERS = ("pyav", "torchcodec")
GPU_DECODERS = ("dali", "torchcodec-cuda")
DECODERS = CPU_DECODERS + GPU_DECODERS

# Frames of one video: (data, ascending distinct indices, info) -> upright uint8 [H, W, 3], one per index.
FrameReader = Callable[[bytes, Sequence[int], VideoMetadata], Iterator[np.ndarray]]


class DecoderUnavailable(RuntimeError):
    """A decoder that cannot run here; the message says why and what to do."""


def frame_reader(decoder: str) -> FrameReader:
    """Return the function that reads frames with a CPU decoder.

    Raises:
        ValueError: no such decoder, or one that decodes batches on a GPU.
        DecoderUnavailable: it cannot run here.
    """
    if decoder in GPU_DECODERS:
        raise ValueError(f"decoder {decoder!r} decodes batches on a GPU, with decode_views; here: {_either()}")
    require(decoder)
    return importlib.import_module(f"fastvid.video.decoders.{decoder}").read_frames


def require(decoder: str, device: str = "cuda") -> None:
    """Raise an error where a decoder cannot run here; ``device`` is ``"cpu"`` for DALI without a GPU.

    Raises:
        ValueError: no such decoder.
        DecoderUnavailable: it cannot run here.
    """
    reason = why_not(decoder, device)
    if reason:
        raise DecoderUnavailable(f"decoder {decoder!r} cannot be used: {reason}")


@functools.cache
def why_not(decoder: str, device: str = "cuda") -> str | None:
    """Explain why a decoder cannot run here and what to do, or return None when it can.

    Raises:
        ValueError: no such decoder.
    """
    if decoder not in DECODERS:
        raise ValueError(f"no decoder {decoder!r}: choose one of {', '.join(DECODERS)}")
    if decoder == "pyav":  # fastvid needs it to read a file's frame table, so it is here
        return None
    reason = _dali_missing() if decoder == "dali" else _torchcodec_missing()
    on_a_gpu = decoder in GPU_DECODERS and not (decoder == "dali" and device == "cpu")
    return reason or (_gpu_missing() if on_a_gpu else None)


def _dali_missing() -> str | None:
    # Not find_spec("nvidia.dali"): that raises where no nvidia package is installed at all.
    try:
        importlib.import_module("nvidia.dali.experimental.dynamic")
    except ModuleNotFoundError:
        return "DALI is not installed: pip install nvidia-dali-cuda130 (nvidia-dali-cuda120 for CUDA 12 drivers)"
    except (ImportError, OSError) as error:
        return f"DALI is installed but does not load: {str(error).splitlines()[0]}"
    return None


def _torchcodec_missing() -> str | None:
    if importlib.util.find_spec("torchcodec") is None:
        return "torchcodec is not installed: pip install torchcodec, and FFmpeg's shared libraries (apt install ffmpeg)"
    try:
        import torchcodec
    except (ImportError, OSError, RuntimeError) as error:
        return f"torchcodec is installed but does not load: {str(error).splitlines()[0]}"
    if getattr(torchcodec, "ffmpeg_major_version", True) is None:
        return (
            "torchcodec finds no FFmpeg 4 to 9 that it can load: install FFmpeg's shared libraries (apt install ffmpeg)"
        )
    return None


def _gpu_missing() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "it needs an NVIDIA GPU, and torch sees none"


def _either() -> str:
    return " or ".join(CPU_DECODERS)
