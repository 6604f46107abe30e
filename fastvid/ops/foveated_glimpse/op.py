"""foveated_glimpse: schemas, fakes, CPU and CUDA implementations, autograd, public function."""

import math
from collections.abc import Callable
from typing import Literal

import torch

from fastvid import _native
from fastvid.ops import _checks
from fastvid.ops._autograd import wants_grad
from fastvid.ops._dispatch import Backend, choose, kernel_dtype, kernel_writes, register
from fastvid.ops._layout import interleaved
from fastvid.ops.foveated_glimpse import reference
from fastvid.ops.gather_tubelets import IMAGENET_MEAN, IMAGENET_STD

Padding = Literal["border", "zeros"]
PADDINGS = ("border", "zeros")

_NAME = "foveated_glimpse"
_FRAME_CODES = {**_native.DTYPE_CODES, torch.uint8: _native.UINT8_CODE}

_GEOMETRY = (
    "Tensor frames, Tensor center, Tensor scale, int size, int levels, float level_ratio, float[] mean, float[] std, "
    "str padding, bool antialias"
)


def glimpses(frames: torch.Tensor, center: torch.Tensor, size: int, levels: int, dtype: torch.dtype) -> torch.Tensor:
    """Allocate the output [B, T, G, levels, 3, size, size]."""
    B, T, G, _ = center.shape
    return frames.new_empty((B, T, G, levels, 3, size, size), dtype=dtype)


def _fake(frames, center, scale, size, levels, level_ratio, mean, std, padding, antialias, dtype, backend):
    return glimpses(frames, center, size, levels, dtype)


def _gaze_fake(grad, frames, center, scale, size, levels, level_ratio, mean, std, padding, antialias, backend):
    return center.new_empty(center.shape), scale.new_empty(scale.shape)


def _frames_fake(grad, frames, center, scale, size, levels, level_ratio, mean, std, padding, antialias, backend):
    return frames.new_empty(frames.shape)


def normalization(frames: torch.Tensor, mean: list[float], std: list[float]) -> tuple[list[float], list[float]]:
    """Return the gain and pivot per channel for which the normalised value is ``gain * (pixel - pivot)``."""
    unit = 1.0 if frames.is_floating_point() else 255.0
    return [1 / (unit * s) for s in std], [unit * m for m in mean]


def _arguments(frames, center, scale, size, levels, level_ratio, mean, std, padding, antialias):
    """Return the leading arguments of every native function. The tensors must outlive the call, and are contiguous."""
    B, T, H, W, _ = frames.shape
    return (
        frames.data_ptr(), _FRAME_CODES[frames.dtype], frames.stride()[:3], center.data_ptr(), scale.data_ptr(),
        (B, T, H, W, center.shape[2], levels, size), level_ratio, *normalization(frames, mean, std),
        padding == "zeros", antialias,
    )  # fmt: skip


def _refuse_scale(scale: torch.Tensor, position: int) -> None:
    if position >= 0:
        G = scale.shape[2]
        b, t, g = position // (scale.shape[1] * G), position // G % scale.shape[1], position % G
        raise ValueError(f"{_NAME}: scale[{b}, {t}, {g}] is {scale.reshape(-1)[position]:g}; it must be > 0")


def _cpu(frames, center, scale, size, levels, level_ratio, mean, std, padding, antialias, dtype, backend):
    out = glimpses(frames, center, size, levels, dtype)
    frames, center, scale = interleaved(frames), center.contiguous(), scale.contiguous()
    arguments = _arguments(frames, center, scale, size, levels, level_ratio, mean, std, padding, antialias)
    bad = _native.CORE.foveated_glimpse(
        *arguments, out.data_ptr(), _native.DTYPE_CODES[dtype], torch.get_num_threads()
    )  # fmt: skip
    _refuse_scale(scale, bad)
    return out


def _gaze_cpu(grad, frames, center, scale, *options):
    *geometry, _ = options
    to_center, to_scale = center.new_empty(center.shape), scale.new_empty(scale.shape)
    grad, frames, center, scale = grad.contiguous(), interleaved(frames), center.contiguous(), scale.contiguous()
    _native.CORE.foveated_glimpse_gaze_grad(
        *_arguments(frames, center, scale, *geometry), grad.data_ptr(), _native.DTYPE_CODES[grad.dtype],
        to_center.data_ptr(), to_scale.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return to_center, to_scale


def _frames_cpu(grad, frames, center, scale, *options):
    *geometry, _ = options
    to_frames = frames.new_empty(frames.shape)
    grad, center, scale = grad.contiguous(), center.contiguous(), scale.contiguous()
    _native.CORE.foveated_glimpse_frames_grad(
        *_arguments(to_frames, center, scale, *geometry), grad.data_ptr(), _native.DTYPE_CODES[grad.dtype],
        to_frames.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return to_frames


def _cuda(frames, center, scale, size, levels, level_ratio, mean, std, padding, antialias, dtype, backend):
    out = glimpses(frames, center, size, levels, dtype)
    frames, center, scale = interleaved(frames), center.contiguous(), scale.contiguous()
    if out.numel():
        arguments = _arguments(frames, center, scale, size, levels, level_ratio, mean, std, padding, antialias)
        stream = torch.cuda.current_stream().cuda_stream
        _native.CORE.foveated_glimpse_cuda(*arguments, out.data_ptr(), _native.DTYPE_CODES[dtype], stream)
    return out


def _gaze_cuda(grad, frames, center, scale, size, levels, *options):
    *rest, _ = options
    to_center, to_scale = center.new_empty(center.shape), scale.new_empty(scale.shape)
    grad, frames, center, scale = grad.contiguous(), interleaved(frames), center.contiguous(), scale.contiguous()
    if scale.numel():
        partial = scale.new_empty((scale.numel(), levels * _native.CORE.glimpse_tiles(size), 3))
        _native.CORE.foveated_glimpse_gaze_grad_cuda(
            *_arguments(frames, center, scale, size, levels, *rest), grad.data_ptr(), _native.DTYPE_CODES[grad.dtype],
            to_center.data_ptr(), to_scale.data_ptr(), partial.data_ptr(), torch.cuda.current_stream().cuda_stream,
        )  # fmt: skip
    return to_center, to_scale


def _setup_context(ctx, inputs, output):
    frames, center, scale, *ctx.geometry, _, ctx.backend = inputs
    ctx.save_for_backward(frames, center, scale)


def _backward(ctx, grad):
    frames, center, scale = ctx.saved_tensors
    for_frames, for_center, for_scale = ctx.needs_input_grad[:3]
    to_frames = to_center = to_scale = None
    if for_center or for_scale:
        to_center, to_scale = _gaze_grad(grad, frames, center, scale, *ctx.geometry, ctx.backend)
    if for_frames:
        backend = _frames_backend(frames, ctx.backend)
        to_frames = _frames_grad(grad, frames, center, scale, *ctx.geometry, backend)
    gradients = (to_frames, to_center if for_center else None, to_scale if for_scale else None)
    return *gradients, *[None] * (len(ctx.geometry) + 2)


def _frames_backend(frames: torch.Tensor, backend: Backend) -> Backend:
    """Return the implementation of the gradient of frames. It differs from the glimpse's: there is no CUDA kernel."""
    if frames.is_cpu or backend != "native":
        return backend
    return choose(f"{_NAME}_frames_grad", frames.device, "auto")


_TRITON = "fastvid.ops.foveated_glimpse.triton"
_op: Callable[..., torch.Tensor] = register(
    f"{_NAME}({_GEOMETRY}, ScalarType dtype, str backend) -> Tensor",
    fake=_fake,
    cpu=_cpu,
    cuda=_cuda,
    triton=_TRITON,
    setup_context=_setup_context,
    backward=_backward,
)
_gaze_grad: Callable[..., tuple[torch.Tensor, torch.Tensor]] = register(
    f"{_NAME}_gaze_grad(Tensor grad, {_GEOMETRY}, str backend) -> (Tensor to_center, Tensor to_scale)",
    fake=_gaze_fake,
    cpu=_gaze_cpu,
    cuda=_gaze_cuda,
    triton=_TRITON,
)
_frames_grad: Callable[..., torch.Tensor] = register(
    f"{_NAME}_frames_grad(Tensor grad, {_GEOMETRY}, str backend) -> Tensor",
    fake=_frames_fake,
    cpu=_frames_cpu,
    triton=_TRITON,
)


def foveated_glimpse(
    frames: torch.Tensor,
    center: torch.Tensor,
    scale: torch.Tensor,
    *,
    size: int,
    levels: int,
    level_ratio: float = 2.0,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    dtype: torch.dtype = torch.float32,
    padding: Padding = "border",
    antialias: bool = True,
    backend: Backend = "auto",
) -> torch.Tensor:
    """Sample stacks of concentric square crops around fixations: sharp in the middle, wide and coarse around it.

    The glimpse of Mnih et al., "Recurrent Models of Visual Attention" (2014): every fixation gives ``levels`` crops
    around one centre, each ``level_ratio`` times as wide as the last, all resampled to size x size and normalised, in
    one pass over the pixels they cover. Gradients tell a learned gaze where to look and how closely.

    Pixel j's centre has coordinate j, its cell is [j - 1/2, j + 1/2], and -1 and 1 are the outer ends of the frame, as
    in ``F.grid_sample(align_corners=False)``. Level l has side ``s = scale * min(H, W) * level_ratio**l`` pixels;
    sample i of an axis of ``extent`` pixels sits at ``((center + 1) * extent - 1) / 2 + ((i + 0.5) / size - 0.5) * s``
    and is the mean over a window of ``max(s / size, 1)`` pixels around it, of 1 pixel without ``antialias``, in which a
    pixel counts as much as its cell covers. A window of 1 pixel is bilinear interpolation; windows of an aligned whole
    number of pixels are the area mean. Where a window ends exactly between two cells the derivative is that from the
    right, ``grid_sample``'s too.

    Args:
        frames: uint8 [B, T, H, W, 3] RGB, or float32, bfloat16 or float16 of that shape with values in [0, 1], and then
            differentiable. Slices are read in place; frames whose pixels are not contiguous are copied.
        center: float32 [B, T, G, 2], (x, y) of each fixation; the frame spans [-1, 1]. Differentiable. Narrower floats
            are widened first.
        scale: float32 [B, T, G] > 0, the innermost crop's side as a share of the frame's shorter side. Differentiable.
        size: side of a resampled crop in samples.
        levels: crops per fixation.
        level_ratio: growth of the side from level to level, > 0.
        mean: per-channel mean of pixels in [0, 1]; default ImageNet's.
        std: per-channel standard deviation of pixels in [0, 1]; default ImageNet's.
        dtype: dtype of the result: float32, bfloat16 or float16. Where this or an input is float64 the reference runs.
        padding: outside the frame, ``"border"`` repeats the outermost pixels, ``"zeros"`` is the mean colour.
        antialias: average over the area between samples where a crop is shrunk; else interpolate at the samples.
        backend: ``"auto"``, ``"reference"``, ``"native"`` or ``"triton"``. On a GPU the gradient of ``frames`` is a
            Triton kernel, also beside the native ones.

    Returns:
        [B, T, G, levels, 3, size, size] in ``dtype``: ``(pixel / 255 - mean) / std`` of uint8 frames, ``(pixel - mean)
        / std`` of float ones. Differentiable once; equal bits every time, whatever the number of threads.

    Raises: TypeError: an argument is not a tensor; frames does not have an image dtype; center or scale is not floating
            point. ValueError: shapes that do not fit, numbers out of range, an unknown padding; a scale that is not > 0
            (checked by the CPU kernel; elsewhere such a glimpse is NaN); a mean, std or level_ratio that requires grad.

    Example:
        >>> frames = torch.randint(256, (2, 16, 512, 512, 3), dtype=torch.uint8)
        >>> center, scale = torch.zeros(2, 16, 4, 2), torch.full((2, 16, 4), 0.2)
        >>> glimpses = foveated_glimpse(frames, center, scale, size=96, levels=3)
    """
    _check(frames, center, scale, size, levels, level_ratio, mean, std, dtype, padding)
    kernel = choose(_NAME, frames.device, backend)
    narrow = kernel_dtype(_NAME, backend, "center", center) and kernel_dtype(_NAME, backend, "scale", scale)
    if frames.is_floating_point():
        narrow = kernel_dtype(_NAME, backend, "frames", frames) and narrow
    narrow = kernel_writes(_NAME, backend, dtype) and narrow
    frames_kernel = _frames_backend(frames, kernel) if frames.requires_grad else kernel
    if "reference" in (kernel, frames_kernel) or not narrow:
        return reference.foveated_glimpse(
            frames, center, scale, size, levels, level_ratio, mean, std, padding, antialias, dtype
        )
    geometry = (size, levels, float(level_ratio), list(mean), list(std), padding, antialias)
    center, scale = center.float(), scale.float()
    wants_grad(_NAME, frames, center, scale)  # or raises
    return _op(frames, center, scale, *geometry, dtype, kernel)


def _check(frames, center, scale, size, levels, level_ratio, mean, std, dtype, padding):
    _checks.tensors(_NAME, frames=frames, center=center, scale=scale)
    if frames.dtype != torch.uint8 and not frames.is_floating_point():
        raise TypeError(f"{_NAME}: frames must be uint8 pixels or floats in [0, 1], got {frames.dtype}")
    if frames.ndim != 5 or frames.shape[-1] != 3 or 0 in frames.shape[2:4]:
        raise ValueError(f"{_NAME}: frames must be [B, T, H, W, 3], H and W > 0; got shape {tuple(frames.shape)}")
    if not center.is_floating_point() or not scale.is_floating_point():
        raise TypeError(f"{_NAME}: center and scale must be floating point; got {center.dtype} and {scale.dtype}")
    if center.ndim != 4 or center.shape[-1] != 2 or center.shape[:2] != frames.shape[:2]:
        raise ValueError(
            f"{_NAME}: center must be [B, T, G, 2] with B={frames.shape[0]} and T={frames.shape[1]}, "
            f"got shape {tuple(center.shape)}"
        )
    if scale.shape != center.shape[:3]:
        raise ValueError(
            f"{_NAME}: scale must be [B, T, G] = {tuple(center.shape[:3])} as center has it, got shape "
            f"{tuple(scale.shape)}"
        )
    if any(isinstance(x, torch.Tensor) and x.requires_grad for x in (*mean, *std, level_ratio)):
        raise ValueError(f"{_NAME}: mean, std and level_ratio are constants, and one of them requires grad; detach it")
    if size < 1 or levels < 1 or not 0 < level_ratio < math.inf:
        raise ValueError(
            f"{_NAME}: size and levels must be at least 1 and level_ratio positive; got {size}, {levels} and "
            f"{level_ratio}"
        )
    _checks.normalization(_NAME, mean, std, dtype)
    if padding not in PADDINGS:
        raise ValueError(f"{_NAME}: padding must be border or zeros; got {padding!r}")
    if not frames.device == center.device == scale.device:
        raise _checks.devices_error(_NAME, frames=frames, center=center, scale=scale)
