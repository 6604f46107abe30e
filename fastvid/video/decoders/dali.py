"""Batches of frames by NVIDIA DALI in dynamic mode: NVDEC on a GPU, FFmpeg's VP8 and VP9 on the CPU.

DALI takes whole batches and fails whole batches, so a batch that fails is decoded again one by one. It numbers the
frames by presentation time as we do, but counts some that are not shown, and knows one way to turn YCbCr into RGB; what
it would get wrong without saying so is refused here, or put right.
"""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastvid.video.container import container_format, has_several_edits
from fastvid.video.decoders.frames import DecodedFrames
from fastvid.video.decoders.torchcodec import raise_if_the_gpu_failed
from fastvid.video.errors import DecodeError
from fastvid.video.ffmpeg import first_line
from fastvid.video.probe import Colours, VideoMetadata, check_complete, colours_of

if TYPE_CHECKING:
    import torch

# By the names that VideoMetadata has.
_CPU_CODECS = ("vp8", "vp9")
_GPU_CODECS = (*_CPU_CODECS, "h264", "hevc", "av1", "mpeg4")
# Red and blue weights of luma by ITU-T H.273 MatrixCoefficients; DALI computes with BT.601 whatever the file says.
_BT601 = (0.299, 0.114)
_WEIGHTS = {1: (0.2126, 0.0722), 2: _BT601, 5: _BT601, 6: _BT601, 7: (0.212, 0.087), 9: (0.2627, 0.0593)}

_sizes_lock = threading.Lock()
_sizes: set[tuple[str, int, int]] = set()  # codec, width, height decoded by NVDEC in this process


def decode_batch(
    videos: Sequence[bytes], wanted: Sequence[Sequence[int]], infos: Sequence[VideoMetadata], device: "torch.device"
) -> list[DecodedFrames | DecodeError]:
    """Decode frames at ascending indices of several videos.

    Returns:
        Per video its frames on ``device``, or why there are none.

    Raises:
        RuntimeError: the device failed, or has no memory left.
    """
    out: dict[int, DecodedFrames | DecodeError] = {}
    colours: dict[int, Colours] = {}
    for i, (data, info) in enumerate(zip(videos, infos, strict=True)):
        try:
            colours[i] = _check(data, info, device)
        except DecodeError as error:
            out[i] = error
    for i, pixels in _decode(list(colours), videos, wanted, device).items():
        try:
            out[i] = _finish(pixels, infos[i], colours[i])
        except DecodeError as error:
            out[i] = error
    return [out[i] for i in range(len(videos))]


def _check(data: bytes, info: VideoMetadata, device: "torch.device") -> Colours:
    """Raise an error for what DALI does not decode, or would decode wrongly without an error."""
    check_complete(data, info)  # also refuses what is not a video
    if info.codec not in (_CPU_CODECS if device.type == "cpu" else _GPU_CODECS):
        raise DecodeError("unsupported", f"DALI does not decode {info.codec} on {device.type}; use pyav")
    if container_format(data) == "avi" or not info.numbered or info.pts is None or info.pts[0] < 0:
        raise DecodeError("unsupported", "DALI needs a presentation time of its own, from 0, for each frame; use pyav")
    colours = info.colours or colours_of(data)
    if colours.pix_fmt != "yuv420p" or colours.full_range or colours.matrix not in _WEIGHTS:
        raise DecodeError("unsupported", f"DALI would change the colours of {colours}; use pyav")
    if device.type == "cuda":
        if has_several_edits(data):  # its NVDEC side goes by times, which the frames between two pieces share
            raise DecodeError("unsupported", "an edit list of several pieces is not for DALI on a GPU; use pyav")
        _check_size(info)
    return colours


def _check_size(info: VideoMetadata) -> None:
    """Raise an error for a size that DALI would decode wrongly. DALI reuses NVDEC decoders by coded size, but
    compares it with the size shown of the video they were made for. A decoder made for 544 rows would be reused for
    530 rows, which are coded as 544, with shifted colours.
    """
    with _sizes_lock:
        for block in (8, 16, 32, 64):
            coded = (-(-info.width // block) * block, -(-info.height // block) * block)
            if coded != (info.width, info.height) and (info.codec, *coded) in _sizes:
                raise DecodeError(
                    "unsupported",
                    f"after a video of {coded[0]} x {coded[1]}, DALI may cut one of {info.width} x {info.height} "
                    "wrongly in the same process; use pyav",
                )
        _sizes.add((info.codec, info.width, info.height))


def _decode(
    rows: list[int], videos: Sequence[bytes], wanted: Sequence[Sequence[int]], device: "torch.device"
) -> "dict[int, torch.Tensor | DecodeError]":
    if not rows:
        return {}
    try:
        return dict(zip(rows, _run([videos[i] for i in rows], [wanted[i] for i in rows], device), strict=True))
    except RuntimeError as error:
        raise_if_the_gpu_failed(error)
        if len(rows) == 1:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            return {rows[0]: DecodeError("corrupt", f"DALI: {first_line(cause)}")}
    found: dict[int, torch.Tensor | DecodeError] = {}
    for row in rows:
        found |= _decode([row], videos, wanted, device)
    return found


def _run(videos: list[bytes], wanted: list[Sequence[int]], device: "torch.device") -> "list[torch.Tensor]":
    import nvidia.dali.experimental.dynamic as ndd
    import torch

    name = "cpu"
    if device.type == "cuda":
        name = f"gpu:{torch.cuda.current_device() if device.index is None else device.index}"
    decoded = ndd.decoders.video(
        # numpy before 2.1 exports no read-only array through DLPack, so the bytes are copied.
        ndd.batch([np.frombuffer(bytearray(data), np.uint8) for data in videos]),
        frames=ndd.batch([np.array(indices, np.int32) for indices in wanted]),
        pad_mode="none",  # a frame that is not there is an error, and not a black picture
        device=name,
    )
    return [tensor.torch() for tensor in decoded.tensors]


def _finish(pixels: "torch.Tensor | DecodeError", info: VideoMetadata, colours: Colours) -> DecodedFrames:
    import torch

    if isinstance(pixels, DecodeError):
        raise pixels
    height, width = pixels.shape[1:3]
    if (height, width) != (info.height, info.width):
        raise DecodeError("corrupt", f"DALI gives {width} x {height} in a video of {info.width} x {info.height}")
    weights = _WEIGHTS[colours.matrix]
    to_rgb = None
    if weights != _BT601:
        to_rgb = torch.from_numpy(_rgb_from_ycc(*weights) @ np.linalg.inv(_rgb_from_ycc(*_BT601))).float()
        to_rgb = to_rgb.to(pixels.device)
    return DecodedFrames(torch.rot90(pixels, info.rotation, (1, 2)), to_rgb)


def _rgb_from_ycc(red: float, blue: float) -> np.ndarray:
    """Return the float64 [3, 3] matrix from Y, Cb, Cr to R, G, B for the given weights of red and blue in luma."""
    green = 1 - red - blue
    return np.array(
        [
            [1, 0, 2 * (1 - red)],
            [1, -2 * (1 - blue) * blue / green, -2 * (1 - red) * red / green],
            [1, 2 * (1 - blue), 0],
        ]
    )
