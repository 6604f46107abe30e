"""Triton kernel of gather_tubelets: pixels are read once, as bytes, and tokens written once."""

import functools

import torch
import triton
import triton.language as tl

from fastvid.ops._launch import Options, choose_launch, options
from fastvid.ops._layout import interleaved
from fastvid.ops._tiles import row_class, row_launches
from fastvid.ops.gather_tubelets.op import output
from fastvid.ops.gather_tubelets.reference import scale_shift

# (elements that a program writes at a time, warps), the default first.
_TILES = [(2048, 4), (1024, 2), (1024, 4), (2048, 8), (4096, 4), (4096, 8)]


@triton.jit
def gather_tubelets_kernel(
    clip, index, out, V, N, rows, grid_h, grid_w, batch_stride, frame_stride, row_stride,
    scale_r: tl.float32, scale_g: tl.float32, scale_b: tl.float32,
    shift_r: tl.float32, shift_g: tl.float32, shift_b: tl.float32,
    HAS_INDEX: tl.constexpr, TUBELET: tl.constexpr, PATCH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write ROWS tubelets. clip uint8 [B, T, H, W, 3], index [B, V], out [B, V, E] with E = (channel, frame, y, x)."""
    E: tl.constexpr = 3 * TUBELET * PATCH * PATCH
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # of B * V
    b = row // V
    token = tl.load(index + row, mask=row < rows, other=0) if HAS_INDEX else row % V
    known = (token >= 0) & (token < N)
    token = tl.where(known, token, 0)
    t, y0, x0 = token // (grid_h * grid_w), token // grid_w % grid_h * PATCH, token % grid_w * PATCH
    corner = clip + b * batch_stride + t * TUBELET * frame_stride + y0 * row_stride + x0 * 3  # [ROWS]
    for start in range(0, E, BLOCK):
        e = start + tl.arange(0, BLOCK)
        c, f = e // (TUBELET * PATCH * PATCH), e // (PATCH * PATCH) % TUBELET
        y, x = e // PATCH % PATCH, e % PATCH
        offset = f.to(tl.int64) * frame_stride + y.to(tl.int64) * row_stride + x * 3 + c
        inside = (row < rows)[:, None] & (e < E)[None, :]
        pixel = tl.load(corner[:, None] + offset[None, :], mask=inside & known[:, None], other=0).to(tl.float32)
        scale = tl.where(c == 0, scale_r, tl.where(c == 1, scale_g, scale_b))
        shift = tl.where(c == 0, shift_r, tl.where(c == 1, shift_g, shift_b))
        # An index out of range cannot raise without waiting for the device: its token is NaN.
        value = tl.where(known[:, None], pixel * scale[None, :] + shift[None, :], float("nan"))
        tl.store(out + row[:, None] * E + e[None, :], value.to(out.dtype.element_ty), mask=inside)


@functools.cache
def tubelet_options(width: int, size: int) -> Options:
    """Return the launches for tubelets of ``width`` values of ``size`` bytes each."""
    return options("gather_tubelets_kernel", row_class(width, size), row_launches(width, _TILES))


def gather_tubelets(
    clip: torch.Tensor,
    index: torch.Tensor | None,
    tubelet: int,
    patch: int,
    mean: list[float],
    std: list[float],
    dtype: torch.dtype,
    backend: str,
) -> torch.Tensor:
    """Map clip uint8 [B, T, H, W, 3] and index int64 [B, V] or None to [B, V, 3 * tubelet * patch**2] in ``dtype``."""
    B, T, H, W, _ = clip.shape
    tokens = (T // tubelet) * (H // patch) * (W // patch)
    out = output(clip, index, tubelet, patch, dtype)
    if not out.numel():
        return out
    clip = interleaved(clip)
    launch = choose_launch(tubelet_options(out.shape[2], out.element_size()), out.device)
    scale, shift = scale_shift(mean, std)
    gather_tubelets_kernel[(triton.cdiv(B * out.shape[1], launch["ROWS"]),)](
        clip, clip if index is None else index.contiguous(), out,
        out.shape[1], tokens, B * out.shape[1], H // patch, W // patch,
        clip.stride(0), clip.stride(1), clip.stride(2), *scale, *shift,
        HAS_INDEX=index is not None, TUBELET=tubelet, PATCH=patch, **launch,
    )  # fmt: skip
    return out
