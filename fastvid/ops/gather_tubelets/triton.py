"""Triton kernel of gather_tubelets: pixels are read once, four at a time where aligned, and tokens written once."""

import functools

import torch
import triton
import triton.language as tl

from fastvid.ops._launch import Options, choose_launch, options
from fastvid.ops._layout import interleaved
from fastvid.ops._tiles import row_class, row_launches
from fastvid.ops.gather_tubelets.op import output
from fastvid.ops.gather_tubelets.reference import scale_shift

# (groups of pixels that a program reads at a time, warps), the default first.
_TILES = [(512, 4), (256, 2), (256, 4), (512, 8), (1024, 4), (1024, 8)]


@triton.jit
def _channel(word0, word1, word2, PIXELS: tl.constexpr, CHANNEL: tl.constexpr, P: tl.constexpr):
    """Return a channel of pixel P of each group, from the three words that hold its pixels."""
    at: tl.constexpr = 3 * P + CHANNEL  # of the group's bytes; a word has as many as the group has pixels
    if at // PIXELS == 0:
        word = word0
    elif at // PIXELS == 1:
        word = word1
    else:
        word = word2
    return ((word >> (8 * (at % PIXELS))) & 255).to(tl.float32)


@triton.jit
def gather_tubelets_kernel(
    words, index, out, V, N, rows, grid_h, grid_w, batch_stride, frame_stride, row_stride,
    scale_r: tl.float32, scale_g: tl.float32, scale_b: tl.float32,
    shift_r: tl.float32, shift_g: tl.float32, shift_b: tl.float32,
    HAS_INDEX: tl.constexpr, TUBELET: tl.constexpr, PATCH: tl.constexpr, PIXELS: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write ROWS tubelets, a group of PIXELS pixels of a row at a time.

    words: the clip uint8 [B, T, H, W, 3] as integers of PIXELS bytes, in which the strides count: a group is 3 of them.
    index [B, V], out [B, V, E] with E = (channel, frame, y, x).
    """
    AREA: tl.constexpr = TUBELET * PATCH * PATCH
    GROUPS: tl.constexpr = AREA // PIXELS
    ACROSS: tl.constexpr = PATCH // PIXELS
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # of B * V
    b = row // V
    token = tl.load(index + row, mask=row < rows, other=0) if HAS_INDEX else row % V
    known = (token >= 0) & (token < N)
    token = tl.where(known, token, 0)
    t, y0, x0 = token // (grid_h * grid_w), token // grid_w % grid_h * PATCH, token % grid_w * ACROSS
    corner = words + b * batch_stride + t * TUBELET * frame_stride + y0 * row_stride + x0 * 3  # [ROWS]
    for start in range(0, GROUPS, BLOCK):
        group = start + tl.arange(0, BLOCK)
        f, y, x = group // (ACROSS * PATCH), group // ACROSS % PATCH, group % ACROSS
        offset = f.to(tl.int64) * frame_stride + y.to(tl.int64) * row_stride + x * 3
        mask = (known & (row < rows))[:, None] & (group < GROUPS)[None, :]
        at = corner[:, None] + offset[None, :]
        word0 = tl.load(at, mask=mask, other=0)
        word1 = tl.load(at + 1, mask=mask, other=0)
        word2 = tl.load(at + 2, mask=mask, other=0)
        pixel = start * PIXELS + tl.arange(0, BLOCK * PIXELS)
        inside = (row < rows)[:, None] & (pixel < AREA)[None, :]
        to = out + row[:, None] * (3 * AREA) + pixel[None, :]
        for c in tl.static_range(3):
            value = _channel(word0, word1, word2, PIXELS, c, 0)
            if PIXELS == 2:
                value = tl.join(value, _channel(word0, word1, word2, PIXELS, c, 1))
            if PIXELS == 4:
                even = tl.join(value, _channel(word0, word1, word2, PIXELS, c, 2))
                odd_pixel = _channel(word0, word1, word2, PIXELS, c, 1)
                value = tl.join(even, tl.join(odd_pixel, _channel(word0, word1, word2, PIXELS, c, 3)))
            value = tl.reshape(value, (ROWS, BLOCK * PIXELS))
            value = value * (scale_r if c == 0 else scale_g if c == 1 else scale_b)
            value += shift_r if c == 0 else shift_g if c == 1 else shift_b
            # An index out of range cannot raise without waiting for the device: its token is NaN.
            value = tl.where(known[:, None], value, float("nan"))
            tl.store(to + c * AREA, value.to(out.dtype.element_ty), mask=inside)


def pixels_in_a_group(clip: torch.Tensor, patch: int) -> int:
    """Return how many pixels, 4, 2 or 1, can be read as three aligned integers of as many bytes.

    The clip is uint8 [B, T, H, W, 3] with contiguous rows; a row of a patch must be whole groups.
    """
    multiples = (patch, clip.data_ptr(), clip.storage_offset(), *clip.stride()[:3])
    return next(pixels for pixels in (4, 2, 1) if all(number % pixels == 0 for number in multiples))


_WORDS = {4: torch.int32, 2: torch.int16, 1: torch.uint8}


@functools.cache
def tubelet_options(groups: int, pixels: int, size: int) -> Options:
    """Return the launches for tubelets of so many groups of pixels, and output values of ``size`` bytes."""
    shape = f"{row_class(groups, size)}, {pixels} pixels"
    return options("gather_tubelets_kernel", shape, row_launches(groups, _TILES))


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
    pixels = pixels_in_a_group(clip, patch)
    words = clip.flatten(3).view(_WORDS[pixels])
    found = tubelet_options(tubelet * patch * patch // pixels, pixels, out.element_size())
    launch = choose_launch(found, out.device)
    scale, shift = scale_shift(mean, std)
    gather_tubelets_kernel[(triton.cdiv(B * out.shape[1], launch["ROWS"]),)](
        words, words if index is None else index.contiguous(), out,
        out.shape[1], tokens, B * out.shape[1], H // patch, W // patch,
        words.stride(0), words.stride(1), words.stride(2), *scale, *shift,
        HAS_INDEX=index is not None, TUBELET=tubelet, PATCH=patch, PIXELS=pixels, **launch,
    )  # fmt: skip
    return out
