"""Triton kernels of gather_tokens: copies of rows, without atomics in either direction."""

import functools

import torch
import triton
import triton.language as tl

from fastvid.ops._launch import Options, choose_launch, options
from fastvid.ops._layout import rows_contiguous
from fastvid.ops._tiles import row_class, row_launches
from fastvid.ops.gather_tokens.op import empty_gathered, empty_scattered

# (elements that a program holds at a time, warps), the default first.
_GATHER = [(4096, 4), (1024, 4), (2048, 2), (2048, 4), (4096, 8), (8192, 8)]
# The same, and the indices compared at a time.
_SCATTER = [(4096, 4, 256), (4096, 4, 128), (2048, 4, 256), (2048, 4, 512), (4096, 8, 256), (8192, 8, 256)]


@triton.jit
def gather_tokens_kernel(
    x, index, out, N, K, D, batch_stride, row_stride, chunks,
    UNKNOWN: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Copy ROWS picked rows of one sample: x [B, N, D], index [B, K], out [B, K, D]."""
    b = (tl.program_id(0) // chunks).to(tl.int64)
    k = tl.program_id(0) % chunks * ROWS + tl.arange(0, ROWS)
    i = tl.load(index + b * K + k, mask=k < K, other=0)  # [ROWS]
    known = (i >= 0) & (i < N)
    source = x + b * batch_stride + tl.where(known, i, 0) * row_stride
    target = out + (b * K + k) * D
    for start in range(0, D, BLOCK):
        d = start + tl.arange(0, BLOCK)
        inside = (k < K)[:, None] & (d < D)[None, :]
        # An index out of range cannot raise without waiting for the device: its row is NaN, which shows.
        row = tl.load(source[:, None] + d[None, :], mask=inside & known[:, None], other=UNKNOWN)
        tl.store(target[:, None] + d[None, :], row, mask=inside)


@triton.jit
def scatter_tokens_kernel(
    grad, index, out, N, K, D, batch_stride, row_stride, chunks,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, SEARCH: tl.constexpr,
):  # fmt: skip
    """Write ROWS rows of one sample: the row of grad whose index matches, or zeros. grad [B, K, D], out [B, N, D].

    Looking for each row's place in the index (a few KB, in cache) costs less than a pass of zeros over the output.
    """
    b = (tl.program_id(0) // chunks).to(tl.int64)
    n = tl.program_id(0) % chunks * ROWS + tl.arange(0, ROWS)
    place = tl.full((ROWS,), -1, tl.int32)
    for start in range(0, K, SEARCH):
        k = start + tl.arange(0, SEARCH)
        i = tl.load(index + b * K + k, mask=k < K, other=-1).to(tl.int32)  # [SEARCH]
        place = tl.maximum(place, tl.max(tl.where(i[None, :] == n[:, None], k[None, :], -1), axis=1))
    picked = place >= 0
    source = grad + b * batch_stride + tl.where(picked, place, 0).to(tl.int64) * row_stride
    target = out + (b * N + n) * D
    for start in range(0, D, BLOCK):
        d = start + tl.arange(0, BLOCK)
        inside = (n < N)[:, None] & (d < D)[None, :]
        row = tl.load(source[:, None] + d[None, :], mask=inside & picked[:, None], other=0)
        tl.store(target[:, None] + d[None, :], row, mask=inside)


@functools.cache
def gather_options(width: int, size: int) -> Options:
    """Return the launches of the gather for rows of ``width`` elements of ``size`` bytes."""
    return options("gather_tokens_kernel", row_class(width, size), row_launches(width, _GATHER))


@functools.cache
def scatter_options(width: int, size: int) -> Options:
    """Return the launches of the scatter for rows of ``width`` elements of ``size`` bytes."""
    tiles = row_launches(width, [(elements, warps) for elements, warps, _ in _SCATTER])
    launches = [{**tile, "SEARCH": search} for tile, (_, _, search) in zip(tiles, _SCATTER, strict=True)]
    return options("scatter_tokens_kernel", row_class(width, size), launches)


def gather_tokens(x: torch.Tensor, index: torch.Tensor, backend: str) -> torch.Tensor:
    """Map x [B, N, D] and index int64 [B, K] to [B, K, D]; NaN (-1 for integers) where an index is out of range."""
    (B, N, D), K = x.shape, index.shape[1]
    out = empty_gathered(x, index, backend)
    if out.numel():
        x, index = rows_contiguous(x), index.contiguous()
        launch = choose_launch(gather_options(D, x.element_size()), x.device)
        chunks = triton.cdiv(K, launch["ROWS"])
        gather_tokens_kernel[(B * chunks,)](
            x, index, out, N, K, D, x.stride(0), x.stride(1), chunks,
            UNKNOWN=float("nan") if x.is_floating_point() else -1, **launch,
        )  # fmt: skip
    return out


def scatter_tokens(grad: torch.Tensor, index: torch.Tensor, tokens: int, backend: str) -> torch.Tensor:
    """Map grad [B, K, D] and index int64 [B, K], distinct in each row, to [B, tokens, D] with zeros elsewhere."""
    B, K, D = grad.shape
    out = empty_scattered(grad, index, tokens, backend)
    if out.numel():
        grad, index = rows_contiguous(grad), index.contiguous()
        launch = choose_launch(scatter_options(D, grad.element_size()), grad.device)
        chunks = triton.cdiv(tokens, launch["ROWS"])
        scatter_tokens_kernel[(B * chunks,)](
            grad, index, out, tokens, K, D, grad.stride(0), grad.stride(1), chunks, **launch
        )
    return out
