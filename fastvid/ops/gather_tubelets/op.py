"""gather_tubelets: schema, fake, CPU implementation, public function."""

from collections.abc import Callable

import torch

from fastvid import _native
from fastvid.ops import _checks
from fastvid.ops._dispatch import Backend, choose, kernel_writes, register
from fastvid.ops._layout import interleaved
from fastvid.ops.gather_tubelets import reference

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_SCHEMA = (
    "gather_tubelets(Tensor clip, Tensor? index, int tubelet, int patch, float[] mean, float[] std, ScalarType dtype, "
    "str backend) -> Tensor"
)


def output(
    clip: torch.Tensor, index: torch.Tensor | None, tubelet: int, patch: int, dtype: torch.dtype
) -> torch.Tensor:
    """Allocate the output [B, V, 3 * tubelet * patch**2]."""
    B, T, H, W, _ = clip.shape
    tokens = (T // tubelet) * (H // patch) * (W // patch) if index is None else index.shape[1]
    return clip.new_empty((B, tokens, 3 * tubelet * patch * patch), dtype=dtype)


def _fake(clip, index, tubelet, patch, mean, std, dtype, backend):
    return output(clip, index, tubelet, patch, dtype)


def _cpu(clip, index, tubelet, patch, mean, std, dtype, backend):
    out = output(clip, index, tubelet, patch, dtype)
    clip = interleaved(clip)
    index = None if index is None else index.contiguous()
    B, T, H, W, _ = clip.shape
    scale, shift = reference.scale_shift(mean, std)
    bad = _native.CORE.gather_tubelets(
        clip.data_ptr(), clip.stride(0), clip.stride(1), clip.stride(2), 0 if index is None else index.data_ptr(),
        out.data_ptr(), _native.DTYPE_CODES[dtype], B, out.shape[1], T, H, W, tubelet, patch, scale, shift,
        torch.get_num_threads(),
    )  # fmt: skip
    if bad >= 0:
        tokens = (T // tubelet) * (H // patch) * (W // patch)
        raise _checks.index_error("gather_tubelets", "index", index, bad, tokens)
    return out


_op: Callable[..., torch.Tensor] = register(_SCHEMA, fake=_fake, cpu=_cpu, triton="fastvid.ops.gather_tubelets.triton")


def gather_tubelets(
    clip: torch.Tensor,
    index: torch.Tensor | None = None,
    *,
    tubelet: int = 2,
    patch: int = 16,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    dtype: torch.dtype = torch.float32,
    backend: Backend = "auto",
) -> torch.Tensor:
    """Gather normalised tubelets of a uint8 clip. Only the pixels of those tubelets are read.

    A clip of T frames has N = (T / tubelet) (H / patch) (W / patch) tubelets in t-major order: token
    ``t * H' * W' + h * W' + w``. Each is flattened (channel, frame, row, column), so a Conv3d patch embedding is
    ``F.linear(gather_tubelets(clip, index), conv.weight.flatten(1), conv.bias)``, at the visible tokens only.

    Args:
        clip: uint8 [B, T, H, W, 3] RGB. Slices are read in place; a clip whose pixels are not contiguous is copied.
        index: int64 [B, V], values in [0, N), or None for all N tubelets in order.
        tubelet: frames per tubelet.
        patch: side of a patch in pixels.
        mean: per-channel mean of pixels in [0, 1]; default ImageNet's.
        std: per-channel standard deviation of pixels in [0, 1]; default ImageNet's.
        dtype: dtype of the result: float32, bfloat16 or float16 (float64 runs the reference).
        backend: ``"auto"``, ``"reference"``, ``"native"`` or ``"triton"``.

    Returns:
        [B, V, 3 * tubelet * patch**2] in ``dtype``: ``(pixel / 255 - mean) / std``.

    Raises:
        TypeError: clip is not a uint8 tensor, or index not an int64 one.
        ValueError: clip is not [B, T, H, W, 3] or does not divide into tubelets.
        IndexError: an index outside [0, N) (checked on CPU; the reference raises RuntimeError, and
            on a GPU, which the call does not wait for, the result has NaN tokens).

    Example:
        >>> clip = torch.randint(256, (2, 16, 224, 224, 3), dtype=torch.uint8)
        >>> tokens = gather_tubelets(clip, visible)  # [2, V, 1536]
    """
    name = "gather_tubelets"
    _checks.tensors(name, clip=clip)
    if clip.dtype != torch.uint8:
        raise TypeError(f"{name}: clip must be uint8 pixels, got {clip.dtype}")
    if clip.ndim != 5 or clip.shape[-1] != 3:
        raise ValueError(f"{name}: clip must be [B, T, H, W, 3], got shape {tuple(clip.shape)}")
    _, T, H, W, _ = clip.shape
    if tubelet < 1 or patch < 1 or T % tubelet or H % patch or W % patch:
        raise ValueError(
            f"{name}: a clip of {T} x {H} x {W} does not divide into tubelets of {tubelet} x {patch} x {patch}"
        )
    _checks.normalization(name, mean, std, dtype)
    if index is not None:
        _checks.tensors(name, index=index)
        if index.ndim != 2 or index.shape[0] != clip.shape[0]:
            raise ValueError(f"{name}: index must be [B, V] with B={clip.shape[0]}, got shape {tuple(index.shape)}")
        _checks.index_dtype(name, "index", index)
        if clip.device != index.device:
            raise _checks.devices_error(name, clip=clip, index=index)
    kernel = choose(name, clip.device, backend)
    if not kernel_writes(name, backend, dtype) or kernel == "reference":
        return reference.gather_tubelets(clip, index, tubelet, patch, mean, std, dtype)
    return _op(clip, index, tubelet, patch, list(mean), list(std), dtype, kernel)
