"""Triton kernels of query_attend for one to four queries: what user models have, a query for each frame.

A program takes one head of one batch entry, and loops once over its tokens, BLOCK_N at a time. It holds a tile of
BLOCK_N x BLOCK_Q rows, one for each token and query, of BLOCK_D columns. Each row keeps a softmax of its own over the
tokens that it meets; they are merged after the loop. So nothing in the loop waits for another warp, and a row's sum
over its columns stays within eight threads. The next tokens are loaded while the present ones are multiplied. Both
together make the kernels as fast as memory is: two thirds of the time of a loop with one softmax went into its
reductions and barriers.
"""

import triton
import triton.language as tl


@triton.jit
def query_places(i, b, h, S, H, Q):
    """Return, for query number `i` of all S * Q: set, place in the set, row in a contiguous [B, S, H, Q], and if it
    exists.
    """
    s = i // Q
    q = i % Q
    row = ((b * S + s) * H + h) * Q + q  # int64, as b is
    return s.to(tl.int64), q.to(tl.int64), row, i < S * Q


@triton.jit
def load_queries(x, b, h, s, q, exists, stride_b, stride_s, stride_h, stride_q, D, BLOCK_D: tl.constexpr):
    """Load the rows of queries, or of what has their shape, [rows, BLOCK_D]."""
    d = tl.arange(0, BLOCK_D)
    at = b * stride_b + h * stride_h + (s * stride_s + q * stride_q)[:, None] + d[None, :]
    return tl.load(x + at, mask=exists[:, None] & (d[None, :] < D), other=0.0)


@triton.jit
def _by_query(x, BLOCK_N: tl.constexpr, BLOCK_Q: tl.constexpr):
    return tl.reshape(x, [BLOCK_N, BLOCK_Q])


@triton.jit
def query_attend_few_kernel(
    query, key, value, out, precise, lse, entropy, peak,
    scale: tl.float32, S, H, Q, N, D,
    q_b, q_s, q_h, q_q, k_b, k_h, k_n, v_b, v_h, v_n,
    STATS: tl.constexpr, PRECISE: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    ROWS: tl.constexpr = BLOCK_N * BLOCK_Q
    b = (tl.program_id(0) // H).to(tl.int64)
    h = (tl.program_id(0) % H).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    in_d = d[None, :] < D
    r = tl.arange(0, ROWS)
    token, i = r // BLOCK_Q, r % BLOCK_Q
    if BLOCK_Q == 1:
        i = tl.arange(0, 1)  # the query of all rows is loaded once
    s, q, _, exists = query_places(i, b, h, S, H, Q)
    x = load_queries(query, b, h, s, q, exists, q_b, q_s, q_h, q_q, D, BLOCK_D).to(tl.float32)
    key_at = key + b * k_b + h * k_h + token.to(tl.int64)[:, None] * k_n + d[None, :]
    value_at = value + b * v_b + h * v_h + token.to(tl.int64)[:, None] * v_n + d[None, :]
    step = tl.full((), BLOCK_N, tl.int64)
    top = tl.full([ROWS], float("-inf"), tl.float32)  # largest score so far
    best = tl.zeros([ROWS], tl.int32)  # where it was found
    total = tl.zeros([ROWS], tl.float32)  # sum exp(score - top)
    total_log = tl.zeros([ROWS], tl.float32)  # sum exp(score - top) (score - top)
    mixed = tl.zeros([ROWS, BLOCK_D], tl.float32)
    next_k = tl.load(key_at, mask=(token < N)[:, None] & in_d, other=0.0)
    next_v = tl.load(value_at, mask=(token < N)[:, None] & in_d, other=0.0)
    for start in range(0, N, BLOCK_N):
        n = start + token
        k, v = next_k.to(tl.float32), next_v.to(tl.float32)
        key_at += step * k_n
        value_at += step * v_n
        more = (n + BLOCK_N < N)[:, None] & in_d
        next_k = tl.load(key_at, mask=more, other=0.0)
        next_v = tl.load(value_at, mask=more, other=0.0)
        scores = tl.where(n < N, tl.sum(x * k, 1) * scale, float("-inf"))
        new_top = tl.maximum(top, scores)
        if STATS:  # strictly larger: the first of equals stays
            best = tl.where(scores > top, n, best)
        down = tl.where(total == 0, 0.0, top - new_top)  # nothing yet: no -inf minus -inf
        keep = tl.exp(down)
        shifted = scores - new_top
        weights = tl.where(scores == float("-inf"), 0.0, tl.exp(shifted))
        if STATS:
            terms = tl.where(weights == 0, 0.0, weights * shifted)  # 0 log 0 = 0
            total_log = keep * (total_log + down * total) + terms
        total = keep * total + weights
        mixed = keep[:, None] * mixed + weights[:, None] * v
        top = new_top
    # The softmax of all tokens, from those of the rows: [BLOCK_N, BLOCK_Q] to [BLOCK_Q].
    top, total = _by_query(top, BLOCK_N, BLOCK_Q), _by_query(total, BLOCK_N, BLOCK_Q)
    all_top = tl.max(top, 0)
    down = tl.where(total == 0, 0.0, top - all_top[None, :])
    keep = tl.where(total == 0, 0.0, tl.exp(down))
    if STATS:
        at_top = tl.where(top == all_top[None, :], _by_query(best, BLOCK_N, BLOCK_Q), 2147483647)
        best = tl.min(at_top, 0)  # the first of equals
        total_log = tl.sum(keep * (_by_query(total_log, BLOCK_N, BLOCK_Q) + down * total), 0)
    total = tl.sum(keep * total, 0)
    mixed *= tl.reshape(keep, [ROWS])[:, None]
    mixed = tl.sum(tl.reshape(mixed, [BLOCK_N, BLOCK_Q, BLOCK_D]), 0) / total[:, None]
    _, _, row, exists = query_places(tl.arange(0, BLOCK_Q), b, h, S, H, Q)
    at = row[:, None] * D + d[None, :]
    there = exists[:, None] & in_d
    tl.store(out + at, mixed.to(out.dtype.element_ty), mask=there)
    if PRECISE:
        tl.store(precise + at, mixed, mask=there)
    tl.store(lse + row, all_top + tl.log(total), mask=exists)
    if STATS:  # relative to the largest score: nothing cancels when scores are large
        tl.store(entropy + row, tl.log(total) - total_log / total, mask=exists)
        tl.store(peak + row, tl.where(best == 2147483647, 0, best).to(tl.int64), mask=exists)  # NaN: any token


@triton.jit
def query_attend_few_backward_kernel(
    grad_out, grad_entropy, query, key, value, precise, lse, entropy, grad_query, grad_key, grad_value,
    scale: tl.float32, S, H, Q, N, D,
    o_b, o_s, o_h, o_q, q_b, q_s, q_h, q_q, k_b, k_h, k_n, v_b, v_h, v_n, g_b, g_h, g_n,
    ENTROPY: tl.constexpr, WITH_QUERY: tl.constexpr, WITH_CACHE: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    ROWS: tl.constexpr = BLOCK_N * BLOCK_Q
    b = (tl.program_id(0) // H).to(tl.int64)
    h = (tl.program_id(0) % H).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    in_d = d[None, :] < D
    r = tl.arange(0, ROWS)
    token, i = r // BLOCK_Q, r % BLOCK_Q
    if BLOCK_Q == 1:
        i = tl.arange(0, 1)  # the query of all rows is loaded once
    s, q, row, exists = query_places(i, b, h, S, H, Q)
    x = load_queries(query, b, h, s, q, exists, q_b, q_s, q_h, q_q, D, BLOCK_D).to(tl.float32)
    g = load_queries(grad_out, b, h, s, q, exists, o_b, o_s, o_h, o_q, D, BLOCK_D).to(tl.float32)
    o = tl.load(precise + row[:, None] * D + d[None, :], mask=exists[:, None] & in_d, other=0.0)
    mean_slope = tl.sum(g * o, 1)
    log_total = tl.load(lse + row, mask=exists, other=0.0)
    if ENTROPY:
        g_entropy = tl.load(grad_entropy + row, mask=exists, other=0.0)
        spread = tl.load(entropy + row, mask=exists, other=0.0)
    key_at = key + b * k_b + h * k_h + token.to(tl.int64)[:, None] * k_n + d[None, :]
    value_at = value + b * v_b + h * v_h + token.to(tl.int64)[:, None] * v_n + d[None, :]
    step = tl.full((), BLOCK_N, tl.int64)
    own = tl.arange(0, BLOCK_N)  # tokens whose gradients a step writes
    to = b * g_b + h * g_h + own.to(tl.int64)[:, None] * g_n + d[None, :]
    mixed = tl.zeros([ROWS, BLOCK_D], tl.float32)  # query's gradient
    next_k = tl.load(key_at, mask=(token < N)[:, None] & in_d, other=0.0)
    next_v = tl.load(value_at, mask=(token < N)[:, None] & in_d, other=0.0)
    for start in range(0, N, BLOCK_N):
        n = start + token
        k, v = next_k.to(tl.float32), next_v.to(tl.float32)
        key_at += step * k_n
        value_at += step * v_n
        more = (n + BLOCK_N < N)[:, None] & in_d
        next_k = tl.load(key_at, mask=more, other=0.0)
        next_v = tl.load(value_at, mask=more, other=0.0)
        log_weights = tl.where((n < N) & exists, tl.sum(x * k, 1) * scale - log_total, float("-inf"))
        weights = tl.exp(log_weights)
        slopes = tl.sum(g * v, 1) - mean_slope
        if ENTROPY:
            slopes -= g_entropy * (tl.where(weights == 0, 0.0, log_weights) + spread)  # 0 log 0 = 0
        slopes *= weights
        if WITH_QUERY:
            mixed += slopes[:, None] * k
        if WITH_CACHE:
            key_rows, value_rows = slopes[:, None] * x, weights[:, None] * g
            if BLOCK_Q > 1:
                key_rows = tl.sum(tl.reshape(key_rows, [BLOCK_N, BLOCK_Q, BLOCK_D]), 1)
                value_rows = tl.sum(tl.reshape(value_rows, [BLOCK_N, BLOCK_Q, BLOCK_D]), 1)
            here = (start + own < N)[:, None] & in_d
            tl.store(grad_key + to, (key_rows * scale).to(grad_key.dtype.element_ty), mask=here)
            tl.store(grad_value + to, value_rows.to(grad_value.dtype.element_ty), mask=here)
            to += step * g_n
    if WITH_QUERY:
        mixed = tl.sum(tl.reshape(mixed, [BLOCK_N, BLOCK_Q, BLOCK_D]), 0) * scale
        _, _, row, exists = query_places(tl.arange(0, BLOCK_Q), b, h, S, H, Q)
        at = row[:, None] * D + d[None, :]
        tl.store(grad_query + at, mixed.to(grad_query.dtype.element_ty), mask=exists[:, None] & in_d)
