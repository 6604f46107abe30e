"""Windows of the samples of glimpses, as the Triton kernels compute them; csrc/foveated_glimpse.h has the same."""

import triton
import triton.language as tl


@triton.jit
def _cell(x, extent):
    """Return the pixel whose cell holds a coordinate, clamped to the frame; NaN gives 0."""
    cell, end = tl.floor(x + 0.5), (extent - 1).to(tl.float32)
    cell = tl.where(cell > 0.0, cell, 0.0)
    return tl.where(cell < end, cell, end).to(tl.int32)


@triton.jit
def offset(index, size):
    return tl.div_rn(index.to(tl.float32) + 0.5, size.to(tl.float32)) - 0.5


@triton.jit
def window(middle, side, width, extent, index, size, ZEROS: tl.constexpr):
    """Return (left edge, right edge, 1 / width, first pixel, last pixel, cell of the left edge, of the right edge)."""
    u = middle + offset(index, size) * side
    left, right = u - width / 2, u + width / 2
    inverse = 1.0 / (right - left)  # not 1 / width: the weights sum to one whatever u was rounded to
    first, last = _cell(left, extent), _cell(right, extent)
    left_cell, right_cell = first, last
    if ZEROS:  # a cell of -1 is outside, where there is nothing
        begin, end = -0.5, extent.to(tl.float32) - 0.5
        left_cell = tl.where((left < begin) | (left >= end), -1, first)
        right_cell = tl.where((right < begin) | (right >= end), -1, last)
        last = tl.where((right <= begin) | (left >= end), first - 1, last)
        left = tl.where(left < begin, begin, left)
        right = tl.where(right > end, end, right)
    return left, right, inverse, first, last, left_cell, right_cell


@triton.jit
def weight_of(left, right, inverse, first, last, pixel):
    """Return the share of the window that the pixel's cell covers; 0 for pixels outside the window."""
    begin = tl.where(pixel == first, left, pixel.to(tl.float32) - 0.5)
    end = tl.where(pixel == last, right, pixel.to(tl.float32) + 0.5)
    return tl.where((pixel >= first) & (pixel <= last), (end - begin) * inverse, 0.0)


@triton.jit
def crop(center, scale, fixation, level, H, W, size, ratio, LEVELS: tl.constexpr, ANTIALIAS: tl.constexpr):
    """Return (middle x, middle y, side, width of a window, d(side) / d(scale)) of a glimpse's level, in pixels."""
    side_of_one = tl.minimum(H, W).to(tl.float32)
    growth = tl.full((), 1.0, tl.float32)
    for below in tl.static_range(LEVELS):
        growth = tl.where(below < level, growth * ratio, growth)
    side_of_one = side_of_one * growth
    s = tl.load(scale + fixation)
    side = tl.where(s > 0.0, s, float("nan")) * side_of_one
    step = tl.div_rn(side, size.to(tl.float32))
    width = tl.full((), 1.0, tl.float32)
    if ANTIALIAS:
        width = tl.where(step <= 1.0, 1.0, step)  # a NaN stays one
    x = ((tl.load(center + 2 * fixation) + 1.0) * W.to(tl.float32) - 1.0) / 2
    y = ((tl.load(center + 2 * fixation + 1) + 1.0) * H.to(tl.float32) - 1.0) / 2
    return x, y, side, width, side_of_one


@triton.jit
def samples_over(pixel, middle, side, width, extent, size, ZEROS: tl.constexpr):
    """Return the (first, last) sample whose window may cover a pixel, one too many at either end; none: last <
    first.
    """
    step = tl.div_rn(side, size.to(tl.float32))
    start = middle - side / 2 + step / 2
    reach = 0.5 + width / 2 + 1e-6 * (tl.abs(middle) + side + extent.to(tl.float32))  # and what rounding may move
    p, end = pixel.to(tl.float32), size.to(tl.float32)
    first, last = tl.floor((p - reach - start) / step), tl.ceil((p + reach - start) / step)
    if not ZEROS:  # the outermost pixels are repeated
        first = tl.where(pixel == 0, 0.0, first)
        last = tl.where(pixel == extent - 1, end - 1, last)
    first = tl.where(first > 0.0, first, 0.0)
    first = tl.where(first < end, first, end)
    last = tl.where(last > -1.0, last, -1.0)
    last = tl.where(last < end - 1, last, end - 1)
    return first.to(tl.int32), last.to(tl.int32)
