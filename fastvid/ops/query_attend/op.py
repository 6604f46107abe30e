"""query_attend: schemas, fakes, CPU implementations, autograd, public function."""

from collections.abc import Callable
from typing import Literal, overload

import torch

from fastvid import _native
from fastvid.ops import _checks
from fastvid.ops._autograd import second_derivative_error, wants_grad
from fastvid.ops._dispatch import Backend, choose, kernel_dtype, register
from fastvid.ops._layout import rows_contiguous
from fastvid.ops.query_attend import reference

_NAME = "query_attend"
_TRITON = "fastvid.ops.query_attend.triton"

# query is [B, h, Q, d], or [B, S, h, Q, d], S query sets to a cached key and value [B, h, N, d].
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


def contiguous_like(x: torch.Tensor) -> torch.Tensor:
    """Allocate a contiguous tensor of x's shape and dtype."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def empty_outputs(query: torch.Tensor, with_stats: bool, with_grad: bool) -> tuple[torch.Tensor, ...]:
    """Allocate out, precise, lse, entropy and peak."""
    rows = query.shape[:-1]
    keep = with_grad and query.dtype != torch.float32
    return (
        contiguous_like(query),
        query.new_empty(query.shape if keep else 0, dtype=torch.float32),
        query.new_empty(rows, dtype=torch.float32),
        query.new_empty(rows if with_stats else 0, dtype=torch.float32),
        query.new_empty(rows if with_stats else 0, dtype=torch.int64),
    )


def empty_gradients(
    query: torch.Tensor, key: torch.Tensor, with_query: bool, with_cache: bool, token_major: bool
) -> Triple:
    """Allocate the three gradients."""

    def like_key() -> torch.Tensor:
        if not with_cache:
            return key.new_empty(0)
        if token_major:
            return contiguous_like(key.transpose(1, 2)).transpose(1, 2)
        return contiguous_like(key)

    return contiguous_like(query) if with_query else query.new_empty(0), like_key(), like_key()


def _fake(query, key, value, scale, with_stats, with_grad, backend):
    return empty_outputs(query, with_stats, with_grad)


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
    return empty_gradients(query, key, with_query, with_cache, token_major)


def _address(x: torch.Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()  # of an empty tensor it is 0 too


def _cpu(query, key, value, scale, with_stats, with_grad, backend):
    result = empty_outputs(query, with_stats, with_grad)
    query, key, value = rows_contiguous(query), rows_contiguous(key), rows_contiguous(value)
    _native.CORE.query_attend(
        query.data_ptr(), key.data_ptr(), value.data_ptr(), _native.DTYPE_CODES[query.dtype], query.shape, key.shape,
        query.stride(), key.stride(), value.stride(), scale, torch.get_num_threads(), *(_address(x) for x in result),
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
    result = empty_gradients(query, key, with_query, with_cache, token_major)
    if query.numel() == 0:
        return result[0], result[1].zero_(), result[2].zero_()
    query, key, value, grad_out = (rows_contiguous(x) for x in (query, key, value, grad_out))
    if grad_entropy is not None:
        grad_entropy = grad_entropy.contiguous()
    _native.CORE.query_attend_backward(
        query.data_ptr(), key.data_ptr(), value.data_ptr(), _native.DTYPE_CODES[query.dtype], query.shape, key.shape,
        query.stride(), key.stride(), value.stride(), scale, torch.get_num_threads(),
        grad_out.data_ptr(), grad_out.stride(),
        *(_address(x) for x in (precise, lse, grad_entropy, entropy, *result)), result[1].stride(),
    )  # fmt: skip
    return result


def _setup_context(ctx, inputs, output):
    query, key, value, ctx.scale, _, _, ctx.backend = inputs
    out, precise, lse, entropy, _ = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(query, key, value, out if query.dtype == torch.float32 else precise, lse, entropy)


def _backward(ctx, grad_out, grad_precise, grad_lse, grad_entropy, grad_peak):
    if grad_precise is not None or grad_lse is not None:  # kept for this function only
        raise second_derivative_error(_NAME)
    query, key, value, kept, lse, entropy = ctx.saved_tensors
    needed = ctx.needs_input_grad[:3]
    # A projection [B, N, h, d] seen as [B, h, N, d] gets its gradient in the order it has in memory.
    token_major = key.stride(1) < key.stride(2)
    grads = _attend_backward(
        torch.zeros_like(query) if grad_out is None else grad_out, grad_entropy, query, key, value, kept, lse,
        None if grad_entropy is None else entropy, ctx.scale, needed[0], needed[1] or needed[2], token_major,
        ctx.backend,
    )  # fmt: skip
    return *(grad if needs else None for grad, needs in zip(grads, needed, strict=True)), None, None, None, None


_attend: Callable[..., tuple[torch.Tensor, ...]] = register(
    _SCHEMA, fake=_fake, cpu=_cpu, triton=_TRITON, setup_context=_setup_context, backward=_backward
)
_attend_backward: Callable[..., Triple] = register(
    _BACKWARD_SCHEMA, fake=_backward_fake, cpu=_backward_cpu, triton=_TRITON
)


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
    """Compute the attention of a few queries over many cached tokens, and optionally its entropy and peak.

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
        scale: factor of the scores; None is ``1 / sqrt(d)``.
        return_stats: also return entropy and peak.
        backend: ``"auto"``, ``"reference"``, ``"native"`` or ``"triton"``.

    Returns:
        out in query's shape and dtype. With ``return_stats`` also entropy, float32 [B, h, Q] or [B, S, h, Q] in nats,
        between 0 and log N, differentiable, and peak, int64 of the same shape: the index of the largest weight, the
        lowest one among equals; not differentiable. Where inputs are NaN, out and entropy are, and peak is any token.

    Raises: TypeError: an argument is not a tensor; tensors of different dtypes, or not floating point; ``backend``
        insists on a kernel for float64. ValueError: shapes that do not fit; no tokens; tensors on different devices.

    Example:
        >>> out, entropy, peak = query_attend(query, key, value, return_stats=True)
    """
    _check(query, key, value)
    kernel = choose(_NAME, query.device, backend)
    if scale is None:
        scale = query.shape[-1] ** -0.5
    if kernel == "reference" or not kernel_dtype(_NAME, backend, "query", query):
        result = reference.query_attend(query, key, value, scale)
        return result if return_stats else result[0]
    with_grad = wants_grad(_NAME, query, key, value)
    out, _, _, entropy, peak = _attend(query, key, value, scale, return_stats, with_grad, kernel)
    return (out, entropy, peak) if return_stats else out


def _check(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
    _checks.tensors(_NAME, query=query, key=key, value=value)
    q, k, v = query.shape, key.shape, value.shape
    fits = len(k) == 4 and k == v and len(q) in (4, 5) and q[0] == k[0] and q[-3] == k[1] and q[-1] == k[3]
    if not fits or k[2] == 0 or k[3] == 0:
        raise _shape_error(q, k, v)
    if not query.is_floating_point() or not query.dtype == key.dtype == value.dtype:
        raise TypeError(
            f"{_NAME}: query, key and value must have one floating-point dtype; got {query.dtype}, {key.dtype} and "
            f"{value.dtype}"
        )
    if not query.device == key.device == value.device:
        raise _checks.devices_error(_NAME, query=query, key=key, value=value)


def _shape_error(q: torch.Size, k: torch.Size, v: torch.Size) -> ValueError:
    got = f"got {tuple(q)}, {tuple(k)} and {tuple(v)}"
    if len(q) not in (4, 5) or len(k) != 4 or len(v) != 4:
        said = f"expected query [B, h, Q, d] or [B, S, h, Q, d], key and value [B, h, N, d]; {got}"
    elif q[-1] != k[3] or k[3] != v[3]:
        said = f"query, key and value must have one head dimension d; {got}"
    elif k[:3] != v[:3] or q[0] != k[0] or q[-3] != k[1]:
        said = f"query, key and value must agree in B, h and N; {got}"
    else:
        said = f"there must be a token to look at, with a dimension; got key {tuple(k)}"
    return ValueError(f"{_NAME}: {said}")
