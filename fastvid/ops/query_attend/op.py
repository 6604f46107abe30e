"""query_attend: schemas, fakes, CPU implementations, autograd, public function."""

from typing import Literal, overload

import torch

from fastvid import _native
from fastvid.ops import _checks
from fastvid.ops._autograd import refuse_second_derivative
from fastvid.ops._dispatch import Backend, choose, kernel_dtypes, register
from fastvid.ops._layout import rows_contiguous
from fastvid.ops.query_attend import reference

_NAME = "query_attend"
_TRITON = "fastvid.ops.query_attend.triton"

# Inside the ops query is always [B, S, h, Q, d], S query sets to a cached key and value [B, h, N, d].
#
# `lse` is log sum exp of the scores. `precise` is `out` before it is rounded to a narrow dtype: the backward pass takes
# rowsum(grad_out * out) away from terms that nearly cancel it when attention is sharp, so the rounding would show. It
# is empty when nothing is differentiated and for float32, where `out` is the same thing. `entropy` and `peak` are
# empty when they are not asked for.
_SCHEMA = (
    "query_attend(Tensor query, Tensor key, Tensor value, float scale, bool with_stats, bool with_grad, str backend)"
    " -> (Tensor out, Tensor precise, Tensor lse, Tensor entropy, Tensor peak)"
)
# A gradient that is not asked for is empty. `token_major`: key's and value's gradients lie in memory as [B, N, h, d].
_BACKWARD_SCHEMA = (
    "query_attend_backward(Tensor grad_out, Tensor? grad_entropy, Tensor query, Tensor key, Tensor value, "
    "Tensor precise, Tensor lse, Tensor? entropy, float scale, bool with_query, bool with_cache, bool token_major, "
    "str backend) -> (Tensor grad_query, Tensor grad_key, Tensor grad_value)"
)

Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def outputs(query: torch.Tensor, with_stats: bool, with_grad: bool) -> tuple[torch.Tensor, ...]:
    """out, precise, lse, entropy and peak, not yet written."""
    rows = query.shape[:-1]
    keep = with_grad and query.dtype != torch.float32
    return (
        query.new_empty(query.shape),
        query.new_empty(query.shape if keep else (0,), dtype=torch.float32),
        query.new_empty(rows, dtype=torch.float32),
        query.new_empty(rows if with_stats else (0,), dtype=torch.float32),
        query.new_empty(rows if with_stats else (0,), dtype=torch.int64),
    )


def gradients(query: torch.Tensor, key: torch.Tensor, with_query: bool, with_cache: bool, token_major: bool) -> Triple:
    """The three gradients, not yet written."""

    def like_key() -> torch.Tensor:
        if not with_cache:
            return key.new_empty((0,))
        B, h, N, d = key.shape
        return key.new_empty((B, N, h, d)).transpose(1, 2) if token_major else key.new_empty(key.shape)

    return query.new_empty(query.shape if with_query else (0,)), like_key(), like_key()


def _fake(query, key, value, scale, with_stats, with_grad, backend):
    return outputs(query, with_stats, with_grad)


def _backward_fake(
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
    return gradients(query, key, with_query, with_cache, token_major)


def _address(x: torch.Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()  # of an empty tensor it is 0 too


def _row_strides(*tensors: torch.Tensor) -> list[int]:
    return [stride for x in tensors for stride in x.stride()[:-1]]


def _cpu(query, key, value, scale, with_stats, with_grad, backend):
    result = outputs(query, with_stats, with_grad)
    if query.numel() == 0:
        return result
    query, key, value = rows_contiguous(query), rows_contiguous(key), rows_contiguous(value)
    _native.CORE.query_attend(
        [_address(x) for x in (query, key, value, *result)], _native.DTYPE_CODES[query.dtype],
        [*query.shape[:4], *key.shape[2:]], _row_strides(query, key, value), scale, torch.get_num_threads(),
    )  # fmt: skip
    return result


def _backward_cpu(
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
    result = gradients(query, key, with_query, with_cache, token_major)
    if query.numel() == 0:
        return result[0], result[1].zero_(), result[2].zero_()
    query, key, value, grad_out = (rows_contiguous(x) for x in (query, key, value, grad_out))
    if grad_entropy is not None:
        grad_entropy = grad_entropy.contiguous()
    cache_strides = result[1].stride()[:-1] if with_cache else (0, 0, 0)
    _native.CORE.query_attend_backward(
        [_address(x) for x in (query, key, value, grad_out, precise, lse, grad_entropy, entropy, *result)],
        _native.DTYPE_CODES[query.dtype], [*query.shape[:4], *key.shape[2:]],
        [*_row_strides(query, key, value, grad_out), *cache_strides], scale, torch.get_num_threads(),
    )  # fmt: skip
    return result


_attend = register(_SCHEMA, fake=_fake, cpu=_cpu, triton=_TRITON)
_attend_backward = register(_BACKWARD_SCHEMA, fake=_backward_fake, cpu=_backward_cpu, triton=_TRITON)


class _QueryAttend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, scale, with_stats, backend):
        with_grad = any(ctx.needs_input_grad[:3])
        out, precise, lse, entropy, peak = _attend(query, key, value, scale, with_stats, with_grad, backend)
        kept = out if query.dtype == torch.float32 else precise
        ctx.save_for_backward(query, key, value, kept, lse, *([entropy] if with_stats else []))
        ctx.scale, ctx.backend = scale, backend
        if not with_stats:
            return out
        ctx.mark_non_differentiable(peak)
        return out, entropy, peak

    @staticmethod
    def backward(ctx, grad_out, grad_entropy=None, grad_peak=None):
        query, key, value, kept, lse, *stats = ctx.saved_tensors
        with torch.no_grad():
            # A projection [B, N, h, d] seen as [B, h, N, d] gets its gradient in the order it has in memory.
            token_major = key.stride(1) < key.stride(2)
            with_query, with_cache = ctx.needs_input_grad[0], ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
            grads = _attend_backward(
                grad_out, grad_entropy if stats else None, query, key, value, kept, lse, stats[0] if stats else None,
                ctx.scale, with_query, with_cache, token_major, ctx.backend,
            )  # fmt: skip
        needed = zip(grads, ctx.needs_input_grad[:3], strict=True)
        return *(refuse_second_derivative(_NAME, grad) if needs else None for grad, needs in needed), None, None, None


@overload
def query_attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float | None = None,
    return_stats: Literal[False] = False,
    backend: Backend = "auto",
) -> torch.Tensor: ...
@overload
def query_attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float | None = None,
    return_stats: Literal[True],
    backend: Backend = "auto",
) -> Triple: ...
def query_attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float | None = None,
    return_stats: bool = False,
    backend: Backend = "auto",
) -> torch.Tensor | Triple:
    """Attention of a few queries over many cached tokens, with what the queries looked at.

    ``out = softmax(scale * query @ key.mT) @ value`` for each head, like
    :func:`torch.nn.functional.scaled_dot_product_attention`, and on request each query's attention entropy
    ``-sum p log p`` and the token it looks at most: in one pass over key and value, in float32, without writing the
    weights ``p`` to memory. The queries of a head share the pass, all those of a grouped call included; it is made for
    16 of them at most, and takes more in tiles of 16. The result does not depend on the number of threads.

    The gradient of the entropy is exact too, so it can serve as a regulariser: adding ``-entropy.mean()`` to a loss
    keeps attention from collapsing onto few tokens, ``+entropy.mean()`` from staying spread over all.

    Args:
        query: [B, h, Q, d], or [B, S, h, Q, d] for S query sets that read the same key and value; float32, bfloat16 or
            float16 (float64 runs the reference). Differentiable, once.
        key: [B, h, N, d], N at least 1, in query's dtype. Differentiable, once.
        value: [B, h, N, d], in query's dtype. Differentiable, once. Inputs whose last dimension is contiguous, such as
            a projection [B, N, h, d] transposed, are read in place; others are copied first.
        scale: of the scores; None is ``1 / sqrt(d)``.
        return_stats: also return entropy and peak.
        backend: ``"auto"``, ``"reference"``, ``"native"`` or ``"triton"``.

    Returns:
        out in query's shape and dtype. With ``return_stats`` also entropy, float32 [B, h, Q] or [B, S, h, Q] in nats,
        between 0 and log N, differentiable, and peak, int64 of the same shape: the index of the largest weight, the
        lowest one among equals; not differentiable. Where inputs are NaN, out and entropy are, and peak is any token.

    Raises:
        TypeError: tensors of different dtypes, or not floating point; ``backend`` insists on a kernel for float64.
        ValueError: shapes that do not fit; no tokens; tensors on different devices.

    Example:
        >>> out, entropy, peak = query_attend(query, key, value, return_stats=True)
    """
    _check(query, key, value)
    kernel = choose(_NAME, query.device, backend)
    if scale is None:
        scale = query.shape[-1] ** -0.5
    grouped = query.ndim == 5
    sets = query if grouped else query.unsqueeze(1)
    if kernel == "reference" or not kernel_dtypes(_NAME, backend, query=query, key=key, value=value):
        out, entropy, peak = reference.query_attend(sets, key, value, scale)
    elif return_stats:
        out, entropy, peak = _QueryAttend.apply(sets, key, value, scale, True, kernel)
    else:
        out = _QueryAttend.apply(sets, key, value, scale, False, kernel)
    if not return_stats:
        return out if grouped else out.squeeze(1)
    return (out, entropy, peak) if grouped else (out.squeeze(1), entropy.squeeze(1), peak.squeeze(1))


def _check(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
    shapes = f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
    if query.ndim not in (4, 5) or key.ndim != 4 or value.ndim != 4:
        raise ValueError(
            f"{_NAME}: expected query [B, h, Q, d] or [B, S, h, Q, d], key and value [B, h, N, d]; got {shapes}"
        )
    if key.shape[:3] != value.shape[:3] or query.shape[0] != key.shape[0] or query.shape[-3] != key.shape[1]:
        raise ValueError(f"{_NAME}: query, key and value must agree in B, h and N; got {shapes}")
    if query.shape[-1] != key.shape[-1] or key.shape[-1] != value.shape[-1]:
        raise ValueError(f"{_NAME}: query, key and value must have one head dimension d; got {shapes}")
    if key.shape[2] == 0 or key.shape[3] == 0:
        raise ValueError(f"{_NAME}: there must be a token to look at, with a dimension; got key {tuple(key.shape)}")
    if not query.is_floating_point() or not query.dtype == key.dtype == value.dtype:
        raise TypeError(
            f"{_NAME}: query, key and value must have one floating-point dtype; got {query.dtype}, {key.dtype} and "
            f"{value.dtype}"
        )
    _checks.same_device(_NAME, query=query, key=key, value=value)
