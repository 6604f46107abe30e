"""Triton kernels of foveated glimpses."""

import functools
from collections.abc import Iterable

import torch
import triton
import triton.language as tl

from fastvid.ops._launch import Launch, Options, choose_launch, options
from fastvid.ops._layout import interleaved
from fastvid.ops.foveated_glimpse.op import glimpses, normalization
from fastvid.ops.foveated_glimpse.triton_windows import crop, offset, samples_over, weight_of, window

# (rows and columns of a program's tile, warps), the default first.
_FORWARD = [(16, 32, 4), (4, 32, 4), (8, 32, 4), (8, 32, 8), (16, 32, 8), (16, 16, 4)]
_GAZE = [(8, 32, 4), (4, 32, 2), (4, 32, 4), (8, 32, 8), (8, 16, 4), (16, 32, 8)]
_FRAMES = [(8, 32, 4), (4, 32, 2), (16, 32, 8)]
# (partial sums that a program adds at a time, warps), the default first.
_SUM = [(128, 4), (128, 1), (128, 2), (64, 2), (32, 1)]

# Sizes that are 1 would otherwise become constants without a dtype, and every frame size a compilation of its own.
_SIZES = ("T", "G", "H", "W", "size", "batch_stride", "frame_stride", "row_stride")


@triton.jit(do_not_specialize=_SIZES)
def foveated_glimpse_kernel(
    frames, center, scale, out, T, G, H, W, size, batch_stride, frame_stride, row_stride, ratio: tl.float32,
    gain0: tl.float32, gain1: tl.float32, gain2: tl.float32,
    pivot0: tl.float32, pivot1: tl.float32, pivot2: tl.float32,
    LEVELS: tl.constexpr, ZEROS: tl.constexpr, ANTIALIAS: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Write one tile of one level's samples per program. A sample loops over the pixels in its window."""
    tiles_x = tl.cdiv(size, BLOCK_X)
    tiles = tiles_x * tl.cdiv(size, BLOCK_Y)
    unit, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    fixation, level = unit // LEVELS, unit % LEVELS
    frame = fixation // G
    base = frames + frame // T * batch_stride.to(tl.int64) + frame % T * frame_stride.to(tl.int64)
    mx, my, side, width, _ = crop(center, scale, fixation, level, H, W, size, ratio, LEVELS, ANTIALIAS)
    i = (tile // tiles_x * BLOCK_Y + tl.arange(0, BLOCK_Y))[:, None]  # [BY, 1]
    k = (tile % tiles_x * BLOCK_X + tl.arange(0, BLOCK_X))[None, :]  # [1, BX]
    top, bottom, over_height, y0, y1, _, _ = window(my, side, width, H, tl.minimum(i, size - 1), size, ZEROS)
    left, right, over_width, x0, x1, _, _ = window(mx, side, width, W, tl.minimum(k, size - 1), size, ZEROS)
    red = tl.zeros((BLOCK_Y, BLOCK_X), tl.float32)
    green, blue = red, red
    inside = red + 1.0
    if ZEROS:
        inside_y = tl.where(y1 < y0, 0.0, (bottom - top) * over_height)
        inside = inside_y * tl.where(x1 < x0, 0.0, (right - left) * over_width)
    for dy in range(0, tl.max(y1 - y0) + 1):
        y = y0 + dy
        wy = weight_of(top, bottom, over_height, y0, y1, y)
        row = base + y.to(tl.int64) * row_stride
        for dx in range(0, tl.max(x1 - x0) + 1):
            x = x0 + dx
            weight = wy * weight_of(left, right, over_width, x0, x1, x)  # [BY, BX]
            under = (y <= y1) & (x <= x1)
            pixel = row + 3 * x
            red += weight * tl.load(pixel, mask=under, other=0).to(tl.float32)
            green += weight * tl.load(pixel + 1, mask=under, other=0).to(tl.float32)
            blue += weight * tl.load(pixel + 2, mask=under, other=0).to(tl.float32)
    red = gain0 * (red - pivot0 * inside)
    green = gain1 * (green - pivot1 * inside)
    blue = gain2 * (blue - pivot2 * inside)
    area = size.to(tl.int64) * size
    at = out + unit * 3 * area + i.to(tl.int64) * size + k
    exists = (i < size) & (k < size)
    tl.store(at, red.to(out.dtype.element_ty), mask=exists)
    tl.store(at + area, green.to(out.dtype.element_ty), mask=exists)
    tl.store(at + 2 * area, blue.to(out.dtype.element_ty), mask=exists)


@triton.jit
def _seen(row, x, under, red, green, blue, outside):
    """Return the product of the gradient with one pixel per sample, relative to the value outside the frame."""
    pixel = row + 3 * x
    total = red * tl.load(pixel, mask=under, other=0).to(tl.float32)
    total += green * tl.load(pixel + 1, mask=under, other=0).to(tl.float32)
    total += blue * tl.load(pixel + 2, mask=under, other=0).to(tl.float32)
    return tl.where(under, total - outside, 0.0)


@triton.jit(do_not_specialize=_SIZES)
def foveated_glimpse_gaze_kernel(
    grad, frames, center, scale, partial, T, G, H, W, size, batch_stride, frame_stride, row_stride, ratio: tl.float32,
    gain0: tl.float32, gain1: tl.float32, gain2: tl.float32,
    pivot0: tl.float32, pivot1: tl.float32, pivot2: tl.float32,
    LEVELS: tl.constexpr, ZEROS: tl.constexpr, ANTIALIAS: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Write partial sums of the gradient to (x, y, scale) over one tile: partial [B * T * G, LEVELS * tiles, 3].

    Moving a window moves its edges: d(mean) / du is (right - left) / width of the pixels at them; widening it gives
    ((right + left) / 2 - mean) / width.
    """
    tiles_x = tl.cdiv(size, BLOCK_X)
    tiles = tiles_x * tl.cdiv(size, BLOCK_Y)
    unit, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    fixation, level = unit // LEVELS, unit % LEVELS
    frame = fixation // G
    base = frames + frame // T * batch_stride.to(tl.int64) + frame % T * frame_stride.to(tl.int64)
    mx, my, side, width, side_of_one = crop(
        center, scale, fixation, level, H, W, size, ratio, LEVELS, ANTIALIAS
    )  # fmt: skip
    i = (tile // tiles_x * BLOCK_Y + tl.arange(0, BLOCK_Y))[:, None]  # [BY, 1]
    k = (tile % tiles_x * BLOCK_X + tl.arange(0, BLOCK_X))[None, :]  # [1, BX]
    top, bottom, over_height, y0, y1, yt, yb = window(my, side, width, H, tl.minimum(i, size - 1), size, ZEROS)
    left, right, over_width, x0, x1, xl, xr = window(mx, side, width, W, tl.minimum(k, size - 1), size, ZEROS)
    area = size.to(tl.int64) * size
    at = grad + unit * 3 * area + i.to(tl.int64) * size + k
    exists = (i < size) & (k < size)
    red = gain0 * tl.load(at, mask=exists, other=0).to(tl.float32)
    green = gain1 * tl.load(at + area, mask=exists, other=0).to(tl.float32)
    blue = gain2 * tl.load(at + 2 * area, mask=exists, other=0).to(tl.float32)
    outside = tl.zeros((BLOCK_Y, BLOCK_X), tl.float32)  # with a repeated border a shift makes no difference
    if ZEROS:
        outside += red * pivot0 + green * pivot1 + blue * pivot2

    widens = width > 1.0
    columns = tl.max(x1 - x0) + 1
    along_x = tl.zeros((BLOCK_Y, BLOCK_X), tl.float32)
    along_y, wider = along_x, along_x
    for dy in range(0, tl.max(y1 - y0) + 1):
        y = y0 + dy
        wy = weight_of(top, bottom, over_height, y0, y1, y)
        row = base + y.to(tl.int64) * row_stride
        at_right = _seen(row, xr, (y <= y1) & (xr >= 0), red, green, blue, outside)
        at_left = _seen(row, xl, (y <= y1) & (xl >= 0), red, green, blue, outside)
        along_x += wy * (at_right - at_left)
        wider += wy * (at_right + at_left) * 0.5
        for dx in range(0, tl.where(widens, columns, 0)):
            x = x0 + dx
            weight = wy * weight_of(left, right, over_width, x0, x1, x)
            wider -= 2 * weight * _seen(row, x, (y <= y1) & (x <= x1), red, green, blue, outside)
    bottom_row, top_row = base + yb.to(tl.int64) * row_stride, base + yt.to(tl.int64) * row_stride
    for dx in range(0, columns):
        x = x0 + dx
        wx = weight_of(left, right, over_width, x0, x1, x)
        at_bottom = _seen(bottom_row, x, (x <= x1) & (yb >= 0), red, green, blue, outside)
        at_top = _seen(top_row, x, (x <= x1) & (yt >= 0), red, green, blue, outside)
        along_y += wx * (at_bottom - at_top)
        wider += wx * (at_bottom + at_top) * 0.5
    to_side = along_x * offset(k, size) + along_y * offset(i, size)
    to_side += tl.where(widens, wider / size.to(tl.float32), 0.0)
    sums = partial + (unit * tiles + tile) * 3
    tl.store(sums, tl.sum(tl.sum(along_x, 1), 0) / width * (W.to(tl.float32) / 2))
    tl.store(sums + 1, tl.sum(tl.sum(along_y, 1), 0) / width * (H.to(tl.float32) / 2))
    tl.store(sums + 2, tl.sum(tl.sum(to_side, 1), 0) / width * side_of_one)


@triton.jit(do_not_specialize=("count",))
def foveated_glimpse_sum_kernel(partial, to_center, to_scale, count, BLOCK: tl.constexpr):
    """Add up the partial sums of one fixation in a fixed order."""
    fixation = tl.program_id(0).to(tl.int64)
    x = tl.zeros((BLOCK,), tl.float32)
    y, scale = x, x
    for start in range(0, count, BLOCK):
        n = start + tl.arange(0, BLOCK)
        at = partial + (fixation * count + n) * 3
        x += tl.load(at, mask=n < count, other=0.0)
        y += tl.load(at + 1, mask=n < count, other=0.0)
        scale += tl.load(at + 2, mask=n < count, other=0.0)
    tl.store(to_center + 2 * fixation, tl.sum(x, 0))
    tl.store(to_center + 2 * fixation + 1, tl.sum(y, 0))
    tl.store(to_scale + fixation, tl.sum(scale, 0))


@triton.jit(do_not_specialize=("G", "H", "W", "size"))
def foveated_glimpse_frames_kernel(
    grad, center, scale, to_frames, G, H, W, size, ratio: tl.float32,
    gain0: tl.float32, gain1: tl.float32, gain2: tl.float32,
    LEVELS: tl.constexpr, ZEROS: tl.constexpr, ANTIALIAS: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Write one tile of one frame's pixels per program. A pixel gathers from the samples whose windows cover it."""
    tiles_x = tl.cdiv(W, BLOCK_X)
    tiles = tiles_x * tl.cdiv(H, BLOCK_Y)
    frame, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    y = (tile // tiles_x * BLOCK_Y + tl.arange(0, BLOCK_Y))[:, None]  # [BY, 1]
    x = (tile % tiles_x * BLOCK_X + tl.arange(0, BLOCK_X))[None, :]  # [1, BX]
    exists = (y < H) & (x < W)
    red = tl.zeros((BLOCK_Y, BLOCK_X), tl.float32)
    green, blue = red, red
    area = size.to(tl.int64) * size
    for seen in range(0, G * LEVELS):
        fixation, level = frame * G + seen // LEVELS, seen % LEVELS
        mx, my, side, width, _side_of_one = crop(center, scale, fixation, level, H, W, size, ratio, LEVELS, ANTIALIAS)
        i0, i1 = samples_over(y, my, side, width, H, size, ZEROS)
        k0, k1 = samples_over(x, mx, side, width, W, size, ZEROS)
        source = grad + (fixation * LEVELS + level) * 3 * area
        for di in range(0, tl.max(tl.where(y < H, i1 - i0, -1)) + 1):
            i = i0 + di
            top, bottom, over_height, y0, y1, _yt, _yb = window(my, side, width, H, i, size, ZEROS)
            wy = tl.where(i <= i1, weight_of(top, bottom, over_height, y0, y1, y), 0.0)
            for dk in range(0, tl.max(tl.where(x < W, k1 - k0, -1)) + 1):
                k = k0 + dk
                left, right, over_width, x0, x1, _xl, _xr = window(mx, side, width, W, k, size, ZEROS)
                weight = wy * tl.where(k <= k1, weight_of(left, right, over_width, x0, x1, x), 0.0)
                over = exists & (i <= i1) & (k <= k1) & (weight != 0.0)
                at = source + i.to(tl.int64) * size + k
                red += weight * tl.load(at, mask=over, other=0).to(tl.float32)
                green += weight * tl.load(at + area, mask=over, other=0).to(tl.float32)
                blue += weight * tl.load(at + 2 * area, mask=over, other=0).to(tl.float32)
    pixel = to_frames + ((frame * H + y) * W + x) * 3
    dtype = to_frames.dtype.element_ty
    tl.store(pixel, (gain0 * red).to(dtype), mask=exists)
    tl.store(pixel + 1, (gain1 * green).to(dtype), mask=exists)
    tl.store(pixel + 2, (gain2 * blue).to(dtype), mask=exists)


def _tiles(height: int, width: int, tiles: Iterable[tuple[int, int, int]]) -> list[Launch]:
    """Return the launches with one tile per program, none larger than height x width needs."""
    sides = triton.next_power_of_2(height), triton.next_power_of_2(width)
    return [{"BLOCK_Y": min(y, sides[0]), "BLOCK_X": min(x, sides[1]), "num_warps": w} for y, x, w in tiles]


def _tile_class(height: int, width: int, size: int) -> str:
    small = [f"{min(triton.next_power_of_2(side), 32)}" for side in (height, width)]
    return f"{' x '.join(small)} of {size} bytes"


@functools.cache
def forward_options(side: int, size: int) -> Options:
    """Return the launches of the forward kernel for crops of side x side from pixels of ``size`` bytes."""
    return options("foveated_glimpse_kernel", _tile_class(side, side, size), _tiles(side, side, _FORWARD))


@functools.cache
def gaze_options(side: int, size: int) -> Options:
    """Return the launches of the gaze gradient for crops of side x side from pixels of ``size`` bytes."""
    # Left alone, ptxas spills two registers to save others that nothing else needs.
    launches = [{**tile, "maxnreg": 128} for tile in _tiles(side, side, _GAZE)]
    return options("foveated_glimpse_gaze_kernel", _tile_class(side, side, size), launches)


@functools.cache
def sum_options() -> Options:
    """Return the launch of the sum over a fixation's tiles."""
    launches = [{"BLOCK": block, "num_warps": warps} for block, warps in _SUM]
    return options("foveated_glimpse_sum_kernel", "any", launches)


@functools.cache
def frames_options(height: int, width: int, size: int) -> Options:
    """Return the launches of the frame gradient for frames of height x width pixels of ``size`` bytes."""
    return options("foveated_glimpse_frames_kernel", _tile_class(height, width, size), _tiles(height, width, _FRAMES))


def foveated_glimpse(
    frames, center, scale, size, levels, level_ratio, mean, std, padding, antialias, dtype, backend
) -> torch.Tensor:
    """Launch the forward kernel; see :func:`fastvid.ops.foveated_glimpse`."""
    B, T, H, W, _ = frames.shape
    G = center.shape[2]
    out = glimpses(frames, center, size, levels, dtype)
    frames, center, scale = interleaved(frames), center.contiguous(), scale.contiguous()
    launch = choose_launch(forward_options(size, frames.element_size()), frames.device)
    programs = B * T * G * levels * triton.cdiv(size, launch["BLOCK_Y"]) * triton.cdiv(size, launch["BLOCK_X"])
    if programs:
        gain, pivot = normalization(frames, mean, std)
        foveated_glimpse_kernel[(programs,)](
            frames, center, scale, out, T, G, H, W, size, *frames.stride()[:3], level_ratio, *gain, *pivot,
            LEVELS=levels, ZEROS=padding == "zeros", ANTIALIAS=antialias, **launch,
        )  # fmt: skip
    return out


def foveated_glimpse_gaze_grad(
    grad, frames, center, scale, size, levels, level_ratio, mean, std, padding, antialias, backend
) -> tuple[torch.Tensor, torch.Tensor]:
    """Launch the reduction to the gradients of center and scale."""
    _, T, H, W, _ = frames.shape
    B, _, G, _ = center.shape
    to_center, to_scale = center.new_empty(center.shape), scale.new_empty(scale.shape)
    grad, frames, center, scale = grad.contiguous(), interleaved(frames), center.contiguous(), scale.contiguous()
    launch = choose_launch(gaze_options(size, frames.element_size()), frames.device)
    tiles = triton.cdiv(size, launch["BLOCK_Y"]) * triton.cdiv(size, launch["BLOCK_X"])
    count = levels * tiles  # partial sums per fixation
    if B * T * G:
        gain, pivot = normalization(frames, mean, std)
        partial = center.new_empty((B * T * G, count, 3))
        foveated_glimpse_gaze_kernel[(B * T * G * count,)](
            grad, frames, center, scale, partial, T, G, H, W, size, *frames.stride()[:3], level_ratio, *gain, *pivot,
            LEVELS=levels, ZEROS=padding == "zeros", ANTIALIAS=antialias, **launch,
        )  # fmt: skip
        launch = choose_launch(sum_options(), center.device)
        foveated_glimpse_sum_kernel[(B * T * G,)](partial, to_center, to_scale, count, **launch)
    return to_center, to_scale


def foveated_glimpse_frames_grad(
    grad, frames, center, scale, size, levels, level_ratio, mean, std, padding, antialias, backend
) -> torch.Tensor:
    """Launch the gather of the gradient of float frames."""
    B, T, H, W, _ = frames.shape
    G = center.shape[2]
    to_frames = frames.new_empty(frames.shape)
    grad, center, scale = grad.contiguous(), center.contiguous(), scale.contiguous()
    launch = choose_launch(frames_options(H, W, frames.element_size()), frames.device)
    programs = B * T * triton.cdiv(H, launch["BLOCK_Y"]) * triton.cdiv(W, launch["BLOCK_X"])
    if programs:
        gain, _ = normalization(frames, mean, std)
        foveated_glimpse_frames_kernel[(programs,)](
            grad, center, scale, to_frames, G, H, W, size, level_ratio, *gain,
            LEVELS=levels, ZEROS=padding == "zeros", ANTIALIAS=antialias, **launch,
        )  # fmt: skip
    return to_frames
