"""Triton kernels of query_attend: a program loops once over the tokens of one head of one batch entry.

Up to four queries have kernels of their own, in ``triton_few.py``. More go through ``tl.dot`` in full float32, padded
to sixteen rows.
"""

import functools

import torch
import triton
import triton.language as tl

from fastvid.ops._launch import Options, choose_launch, options
from fastvid.ops._layout import rows_contiguous
from fastvid.ops.query_attend.op import empty_gradients, empty_outputs
from fastvid.ops.query_attend.triton_few import (
    load_queries,
    query_attend_few_backward_kernel,
    query_attend_few_kernel,
    query_places,
)

_TILE = 16  # queries of one program
_FEW = 4  # at most so many queries have all of their rows in one program


@triton.jit
def _scores(x, y):
    """Multiply x [Q, D] with y [N, D] to [Q, N]. tl.dot takes narrow numbers as such: their products are exact in
    float32.
    """
    return tl.dot(x, tl.trans(y), input_precision="ieee")


@triton.jit
def _mix(weights, y):
    """Multiply weights [Q, N] with y [N, D] to [Q, D]."""
    return tl.dot(weights, y, input_precision="ieee")


@triton.jit
def _spread(weights, x):
    """Multiply weights [Q, N] with x [Q, D] to [N, D]."""
    return tl.dot(tl.trans(weights), x, input_precision="ieee")


@triton.jit
def _load_tokens(x, n, stride_n, N, D, BLOCK_D: tl.constexpr):
    d = tl.arange(0, BLOCK_D)
    at = n.to(tl.int64)[:, None] * stride_n + d[None, :]
    return tl.load(x + at, mask=(n[:, None] < N) & (d[None, :] < D), other=0.0)


@triton.jit
def query_attend_kernel(
    query, key, value, out, precise, lse, entropy, peak,
    scale: tl.float32, S, H, Q, N, D,
    q_b, q_s, q_h, q_q, k_b, k_h, k_n, v_b, v_h, v_n,
    STATS: tl.constexpr, PRECISE: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    b = (tl.program_id(0) // H).to(tl.int64)
    h = (tl.program_id(0) % H).to(tl.int64)
    s, q, row, exists = query_places(tl.program_id(1) * BLOCK_Q + tl.arange(0, BLOCK_Q), b, h, S, H, Q)
    x = load_queries(query, b, h, s, q, exists, q_b, q_s, q_h, q_q, D, BLOCK_D)  # [Q, D]
    key += b * k_b + h * k_h
    value += b * v_b + h * v_h
    top = tl.full([BLOCK_Q], float("-inf"), tl.float32)  # largest score so far
    best = tl.zeros([BLOCK_Q], tl.int32)  # where it was found
    total = tl.zeros([BLOCK_Q], tl.float32)  # sum exp(score - top)
    total_log = tl.zeros([BLOCK_Q], tl.float32)  # sum exp(score - top) (score - top)
    mixed = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    for start in range(0, N, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        scores = _scores(x, _load_tokens(key, n, k_n, N, D, BLOCK_D)) * scale
        scores = tl.where(n[None, :] < N, scores, float("-inf"))  # [Q, N]
        block_top = tl.max(scores, 1)
        if STATS:  # strictly larger, then the lowest index: the first of equals stays
            at_top = tl.min(tl.where(scores == block_top[:, None], n[None, :], 2147483647), 1)
            best = tl.where(block_top > top, at_top, best)
        new_top = tl.maximum(top, block_top)
        down = tl.where(total == 0, 0.0, top - new_top)  # nothing yet: no -inf times 0
        shifted = scores - new_top[:, None]
        weights = tl.exp(shifted)
        if STATS:
            terms = tl.sum(tl.where(weights == 0, 0.0, weights * shifted), 1)  # 0 log 0 = 0
            total_log = tl.exp(down) * (total_log + down * total) + terms
        total = tl.exp(down) * total + tl.sum(weights, 1)
        v = _load_tokens(value, n, v_n, N, D, BLOCK_D).to(tl.float32)
        mixed = tl.exp(down)[:, None] * mixed + _mix(weights, v)
        top = new_top
    mixed = mixed / total[:, None]
    d = tl.arange(0, BLOCK_D)
    at = row[:, None] * D + d[None, :]
    there = exists[:, None] & (d[None, :] < D)
    tl.store(out + at, mixed.to(out.dtype.element_ty), mask=there)
    if PRECISE:
        tl.store(precise + at, mixed, mask=there)
    tl.store(lse + row, top + tl.log(total), mask=exists)
    if STATS:  # relative to the largest score: nothing cancels when scores are large
        tl.store(entropy + row, tl.log(total) - total_log / total, mask=exists)
        tl.store(peak + row, best.to(tl.int64), mask=exists)


@triton.jit
def query_attend_backward_kernel(
    grad_out, grad_entropy, query, key, value, precise, lse, entropy, grad_query, grad_key, grad_value,
    scale: tl.float32, S, H, Q, N, D, tiles,
    o_b, o_s, o_h, o_q, q_b, q_s, q_h, q_q, k_b, k_h, k_n, v_b, v_h, v_n, g_b, g_h, g_n,
    ENTROPY: tl.constexpr, WITH_QUERY: tl.constexpr, WITH_CACHE: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write the gradients of key and value from `tiles` tiles of queries, and that of query from one."""
    b = (tl.program_id(0) // H).to(tl.int64)
    h = (tl.program_id(0) % H).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    key += b * k_b + h * k_h
    value += b * v_b + h * v_h
    grad_key += b * g_b + h * g_h
    grad_value += b * g_b + h * g_h
    mixed = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)  # query's gradient
    for start in range(0, N, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        k = _load_tokens(key, n, k_n, N, D, BLOCK_D)
        v = _load_tokens(value, n, v_n, N, D, BLOCK_D)
        key_block = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
        value_block = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
        for tile in range(0, tiles):
            i = (tl.program_id(1) + tile) * BLOCK_Q + tl.arange(0, BLOCK_Q)
            s, q, row, exists = query_places(i, b, h, S, H, Q)
            x = load_queries(query, b, h, s, q, exists, q_b, q_s, q_h, q_q, D, BLOCK_D)
            g = load_queries(grad_out, b, h, s, q, exists, o_b, o_s, o_h, o_q, D, BLOCK_D)
            there = exists[:, None] & (d[None, :] < D)
            o = tl.load(precise + row[:, None] * D + d[None, :], mask=there, other=0.0)
            log_weights = _scores(x, k) * scale - tl.load(lse + row, mask=exists, other=0.0)[:, None]
            log_weights = tl.where((n[None, :] < N) & exists[:, None], log_weights, float("-inf"))
            weights = tl.exp(log_weights)
            slopes = _scores(g, v) - tl.sum(g.to(tl.float32) * o, 1)[:, None]
            if ENTROPY:
                g_entropy = tl.load(grad_entropy + row, mask=exists, other=0.0)[:, None]
                spread = tl.load(entropy + row, mask=exists, other=0.0)[:, None]
                slopes -= g_entropy * (tl.where(weights == 0, 0.0, log_weights) + spread)  # 0 log 0 = 0
            slopes *= weights
            if WITH_CACHE:
                key_block += _spread(slopes, x.to(tl.float32))
                value_block += _spread(weights, g.to(tl.float32))
            if WITH_QUERY:
                mixed += _mix(slopes, k.to(tl.float32))
        if WITH_CACHE:
            at = n.to(tl.int64)[:, None] * g_n + d[None, :]
            there = (n[:, None] < N) & (d[None, :] < D)
            tl.store(grad_key + at, (key_block * scale).to(grad_key.dtype.element_ty), mask=there)
            tl.store(grad_value + at, value_block.to(grad_value.dtype.element_ty), mask=there)
    if WITH_QUERY:
        i = tl.program_id(1) * BLOCK_Q + tl.arange(0, BLOCK_Q)
        _, _, row, exists = query_places(i, b, h, S, H, Q)
        at = row[:, None] * D + d[None, :]
        there = exists[:, None] & (d[None, :] < D)
        tl.store(grad_query + at, (mixed * scale).to(grad_query.dtype.element_ty), mask=there)


@functools.cache
def attend_options(queries: int, dim: int, dtype: torch.dtype, backward: bool) -> Options:
    """Return the launches for `queries` of dimension `dim`; the default keeps a program's tiles in registers."""
    few = queries <= _FEW
    block_d = max(triton.next_power_of_2(dim), 16)
    block_q = triton.next_power_of_2(queries) if few else _TILE
    wide = dtype == torch.float32
    if few:
        # Elements of the tile of all rows, and warps.
        if backward:
            tiles = [(2048, 4), (1024, 2), (4096, 8), (1024, 4)]
        elif block_q == 1:
            tiles = [(1024, 2), (1024, 1), (2048, 4), (2048, 2), (4096, 8)]
        else:
            tiles = [(1024, 4), (1024, 2), (2048, 4)] if wide else [(2048, 2), (2048, 4), (4096, 4), (1024, 2)]
        sizes = [(max(elements // (block_d * block_q), 2), warps, 1) for elements, warps in tiles]
    else:
        if backward:
            elements, warps = 2048, 8
        else:
            elements, warps = 1024 if wide else 2048, 8 if block_d > 64 else 4
        block_n = max(elements // block_d, 16)
        # With float32 tiles a third stage fits a narrow forward pass only.
        stages = 2 if wide and (backward or block_d > 64) else 3
        sizes = [(block_n, warps, stages), (max(block_n // 2, 16), warps, stages), (block_n, warps, stages - 1)]
        # What gives a thread more to hold than the default does spills.
        sizes += [(block_n, warps, stages + 1), (block_n, 2 * warps, stages)]
    # Left alone, ptxas spills two registers of these for the sake of more threads.
    room = {"maxnreg": 168} if few and (backward or wide) else {}
    launches = [
        {"BLOCK_Q": block_q, "BLOCK_N": n, "BLOCK_D": block_d, "num_warps": warps, "num_stages": stages, **room}
        for n, warps, stages in sizes
    ]
    name = f"query_attend_{'few_' if few else ''}{'backward_' if backward else ''}kernel"
    return options(name, f"tiles of {block_q} queries, {block_d} x {dtype.itemsize} bytes", launches)


def grouped(query: torch.Tensor) -> torch.Tensor:
    """Return a view [B, S, h, Q, d] of a query [B, S, h, Q, d] or [B, h, Q, d]."""
    return query if query.ndim == 5 else query.unsqueeze(1)


def query_attend(query, key, value, scale, with_stats, with_grad, backend):
    out, precise, lse, entropy, peak = result = empty_outputs(query, with_stats, with_grad)
    if query.numel() == 0:
        return result
    query, key, value = rows_contiguous(grouped(query)), rows_contiguous(key), rows_contiguous(value)
    (B, S, H, Q, D), N = query.shape, key.shape[2]
    tile = choose_launch(attend_options(S * Q, D, query.dtype, backward=False), query.device)
    kernel = query_attend_few_kernel if S * Q <= _FEW else query_attend_kernel
    kernel[(B * H, triton.cdiv(S * Q, tile["BLOCK_Q"]))](
        query, key, value, out, precise, lse, entropy, peak,
        scale, S, H, Q, N, D,
        *query.stride()[:-1], *key.stride()[:-1], *value.stride()[:-1],
        STATS=with_stats, PRECISE=precise.numel() > 0, **tile,
    )  # fmt: skip
    return result


def query_attend_backward(
    grad_out,
    grad_entropy,
    query,
    key,
    value,
    precise,
    lse,
    entropy,
    scale,
    with_query,
    with_cache,
    token_major,
    backend,
):
    result = empty_gradients(query, key, with_query, with_cache, token_major)
    if query.numel() == 0:
        return result[0], result[1].zero_(), result[2].zero_()
    query, key, value, grad_out = (rows_contiguous(x) for x in (grouped(query), key, value, grouped(grad_out)))
    (B, S, H, Q, D), N = query.shape, key.shape[2]
    tile = choose_launch(attend_options(S * Q, D, query.dtype, backward=True), query.device)
    tiles = triton.cdiv(S * Q, tile["BLOCK_Q"])
    with_entropy = grad_entropy is not None
    if with_entropy:
        grad_entropy = grad_entropy.contiguous()
    tensors = (
        grad_out, grad_entropy if with_entropy else lse, query, key, value, precise, lse,
        entropy if with_entropy else lse, *result,
    )  # fmt: skip
    strides = (*grad_out.stride()[:-1], *query.stride()[:-1], *key.stride()[:-1], *value.stride()[:-1])

    def launch(tiles_of_query: int, tiles_of_cache: int, query_too: bool, cache_too: bool) -> None:
        options = {"ENTROPY": with_entropy, "WITH_QUERY": query_too, "WITH_CACHE": cache_too, **tile}
        ours = (*strides, *(result[1].stride()[:-1] if cache_too else (0, 0, 0)))
        if S * Q <= _FEW:
            query_attend_few_backward_kernel[(B * H,)](*tensors, scale, S, H, Q, N, D, *ours, **options)
        else:
            query_attend_backward_kernel[(B * H, tiles_of_query)](
                *tensors, scale, S, H, Q, N, D, tiles_of_cache, *ours, **options
            )

    if tiles == 1:
        launch(1, 1, with_query, with_cache)
        return result
    # Several tiles: a program adds them up for its tokens' gradients, and another owns each tile's query gradient.
    if with_cache:
        launch(1, tiles, False, True)
    if with_query:
        launch(tiles, 1, True, False)
    return result
