import math

import pytest
import torch

from fastvid import _native
from fastvid.ops import query_attend
from fastvid.ops._dispatch import HAS_TRITON, INTERPRETED

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NATIVE = [f"native {isa}" for isa in (_native.CORE.usable_isas() if _native.CORE is not None else [])]
CAN_RUN_TRITON = HAS_TRITON and (INTERPRETED or torch.cuda.is_available())
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"


@pytest.fixture(params=[*NATIVE, "triton"])
def kernel(request):
    """The backend, once for each CPU kernel set that this processor can run; "triton" where it can run."""
    if request.param == "triton":
        if not CAN_RUN_TRITON:
            pytest.skip("needs a GPU or TRITON_INTERPRET=1")
        yield "triton"
        return
    before = _native.CORE.isa()
    assert _native.CORE.use_isa(request.param.split()[1])
    yield "native"
    _native.CORE.use_isa(before)


def needs_interpreter_dtype(kernel, dtype):
    if kernel == "triton" and INTERPRETED and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter rounds bfloat16 wrongly")


def place(kernel, *tensors):
    return [x.to(DEVICE) if kernel == "triton" else x for x in tensors]


def same(kernel, got, expected):
    """Bit for bit; Triton compiles other strides or flags to other code, which may add up in another order."""
    exact = {"rtol": 0, "atol": 0}
    torch.testing.assert_close(got, expected, **(exact if kernel == "native" else {}))


def case(B=2, S=None, h=2, Q=1, N=37, d=64, dtype=torch.float32, spread=1.0):
    """query, key and value; key as a projection [B, N, h, d] transposed."""
    query = torch.randn(B, h, Q, d) if S is None else torch.randn(B, S, h, Q, d)
    key, value = torch.randn(B, N, h, d).transpose(1, 2), torch.randn(B, h, N, d)
    return [(query * spread).to(dtype), key.to(dtype), value.to(dtype)]


def run(tensors, stats=True, weights=None, entropy_weight=0.7, place_on=None, **kwargs):
    """Results and gradients of a loss that uses out and, with stats, entropy; on the CPU, by name."""
    leaves = [x.detach().clone().requires_grad_() for x in place(place_on, *tensors)]
    got = query_attend(*leaves, return_stats=stats, **kwargs)
    out = got[0] if stats else got
    if weights is None:
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    loss = (out * weights.to(out)).sum()
    if stats:
        slopes = torch.linspace(-1, 1, got[1].numel()).view(got[1].shape).to(got[1])
        loss = loss + entropy_weight * (slopes * got[1]).sum()
    loss.backward()
    named = {"out": out.detach(), **{f"grad {n}": x.grad for n, x in zip("qkv", leaves, strict=True)}}
    if stats:
        named |= {"entropy": got[1].detach(), "peak": got[2]}
    return {name: x.cpu() for name, x in named.items()}


def check_errors(tensors, kernel, stats=True, slack=0.5, **kwargs):
    """Against float64 on the same inputs: at most twice the reference's error plus half an ulp of the norm."""
    gold = run([x.double() for x in tensors], stats, **kwargs)
    reference = run(tensors, stats, backend="reference", **kwargs)
    got = run(tensors, stats, backend=kernel, place_on=kernel, **kwargs)
    assert got.keys() == gold.keys()
    for name, expected in gold.items():
        assert got[name].shape == expected.shape
        assert got[name].dtype == reference[name].dtype
        if name == "peak":
            assert torch.equal(got[name], expected)
            continue
        ref_error, error = (reference[name] - expected).norm(), (got[name] - expected).norm()
        assert error <= 2 * ref_error + slack * torch.finfo(got[name].dtype).eps * expected.norm(), name
    return got


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("Q", [1, 3, 16])
def test_error_is_at_most_twice_that_of_the_reference(dtype, Q, kernel, poisoned):
    needs_interpreter_dtype(kernel, dtype)
    check_errors(case(Q=Q, N=130, dtype=dtype), kernel)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("S", [None, 2])
def test_without_gradients_the_results_are_the_same(dtype, S, kernel, poisoned):
    """Without them, and without statistics, another op runs, which writes nothing but the output."""
    needs_interpreter_dtype(kernel, dtype)
    tensors = place(kernel, *case(S=S, Q=3, dtype=dtype))
    recorded = query_attend(*(x.clone().requires_grad_() for x in tensors), return_stats=True, backend=kernel)
    plain = query_attend(*tensors, return_stats=True, backend=kernel)
    for got, expected in zip(plain, recorded, strict=True):
        same(kernel, got, expected.detach())
        assert not got.requires_grad
    same(kernel, query_attend(*tensors, backend=kernel), plain[0])
    some = tensors[0][:0], tensors[1][:0], tensors[2][:0]
    assert query_attend(*some, backend=kernel).shape == some[0].shape


@pytest.mark.parametrize("dtype", DTYPES)
def test_sharp_attention_keeps_its_gradients(dtype, kernel):
    """One weight near 1: the score's gradient is a small difference, which rounding `out` to dtype would swamp.

    A few scores make most of an error, so that it takes many queries for the errors of two kernels to compare.
    """
    needs_interpreter_dtype(kernel, dtype)
    check_errors(case(B=32, Q=2, N=50, dtype=dtype, spread=6.0), kernel)


@pytest.mark.parametrize(
    ("Q", "N", "d"), [(1, 1, 1), (1, 2, 33), (3, 31, 80), (16, 33, 8), (20, 65, 33), (1, 1100, 16), (17, 5, 130)]
)
def test_odd_sizes(Q, N, d, kernel, poisoned):
    tensors = case(B=1, Q=Q, N=N, d=d)
    got, expected = run(tensors, backend=kernel, place_on=kernel), run(tensors, backend="reference")
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-5, atol=2e-5)
    without = run(tensors, stats=False, backend=kernel, place_on=kernel)
    same(kernel, without["out"], got["out"])
    torch.testing.assert_close(without["grad k"], run(tensors, stats=False, backend="reference")["grad k"])


@pytest.mark.parametrize("Q", [1, 12])
def test_query_sets_that_share_a_cache_equal_one_call_each(Q, kernel, poisoned):
    query, key, value = case(B=2, S=3, Q=Q, N=40, d=32)
    weights = torch.randn(query.shape)
    got = check_errors([query, key, value], kernel, weights=weights)
    slopes = torch.linspace(-1, 1, query[..., 0].numel()).view(query.shape[:-1])
    key_grad = torch.zeros(key.shape)
    for s in range(3):
        leaves = [x.detach().clone().requires_grad_() for x in place(kernel, query[:, s], key, value)]
        out, entropy, peak = query_attend(*leaves, return_stats=True, backend=kernel)
        torch.testing.assert_close(out.cpu(), got["out"][:, s])
        torch.testing.assert_close(entropy.cpu(), got["entropy"][:, s])
        assert torch.equal(peak.cpu(), got["peak"][:, s])
        ((out * weights[:, s].to(out)).sum() + 0.7 * (entropy * slopes[:, s].to(out)).sum()).backward()
        torch.testing.assert_close(leaves[0].grad.cpu(), got["grad q"][:, s], rtol=1e-4, atol=1e-5)
        key_grad += leaves[1].grad.cpu()
    torch.testing.assert_close(got["grad k"], key_grad, rtol=1e-4, atol=1e-5)


def test_strided_inputs_equal_contiguous_ones(kernel):
    B, S, h, Q, N, d = 2, 2, 3, 2, 21, 16
    wide_query, wide = torch.randn(B, Q, S, h, 2 * d), torch.randn(B, N, 3, h, d)
    query = wide_query[..., :d].permute(0, 2, 3, 1, 4)
    key, value = wide[:, :, 0].transpose(1, 2), wide[:, ::1, 2].transpose(1, 2)
    expected = run([x.contiguous() for x in (query, key, value)], backend=kernel, place_on=kernel)
    strided = [query, key, value]
    for tensors in (strided, [x.mT.contiguous().mT for x in strided], [query, key.contiguous(), value]):
        out, entropy, peak = query_attend(*place(kernel, *tensors), return_stats=True, backend=kernel)
        same(kernel, out.cpu(), expected["out"])
        same(kernel, entropy.cpu(), expected["entropy"])
        assert torch.equal(peak.cpu(), expected["peak"])
    shared = query[:1].expand(B, -1, -1, -1, -1)
    same(
        kernel,
        query_attend(*place(kernel, shared, key, value), backend=kernel),
        query_attend(*place(kernel, shared.contiguous(), key, value), backend=kernel),
    )


def test_gradients_of_strided_outputs_and_layout_of_strided_gradients(kernel):
    """Projections [B, N, h, d] get gradients in that order; a gradient of `out` may be transposed or expanded."""
    q, k, v = place(kernel, torch.randn(2, 3, 2, 16), torch.randn(2, 9, 2, 16), torch.randn(2, 9, 2, 16))
    leaves = [x.requires_grad_() for x in (q, k, v)]
    grads = {}
    for backend in (kernel, "reference"):
        out = query_attend(*(x.transpose(1, 2) for x in leaves), backend=backend)
        pooled = out.transpose(1, 2).reshape(2, 3, 32)
        grads[backend] = torch.autograd.grad((pooled * torch.arange(32, device=pooled.device)).sum(), leaves)
        if backend == kernel:
            assert all(g.is_contiguous() for g in grads[backend][1:])  # key's and value's
        expanded = query_attend(*(x.transpose(1, 2) for x in leaves), backend=backend).sum()
        grads[backend] += torch.autograd.grad(expanded, leaves)
    for got, expected in zip(*grads.values(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("which", [(0,), (1,), (2,), (1, 2), (0, 2)])
def test_only_the_gradients_that_are_needed(which, kernel):
    tensors = case(Q=2, N=11, d=8)
    expected = run(tensors, backend="reference")
    leaves = place(kernel, *tensors)
    for i in which:
        leaves[i] = leaves[i].detach().clone().requires_grad_()
    out, entropy, _ = query_attend(*leaves, return_stats=True, backend=kernel)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    slopes = torch.linspace(-1, 1, entropy.numel()).view(entropy.shape).to(out)
    ((out * weights).sum() + 0.7 * (slopes * entropy).sum()).backward()
    for i, name in enumerate("qkv"):
        if i in which:
            torch.testing.assert_close(leaves[i].grad.cpu(), expected[f"grad {name}"], rtol=1e-4, atol=1e-5)
        else:
            assert leaves[i].grad is None


def test_a_loss_of_the_entropy_alone(kernel):
    tensors = case(Q=3, N=19, d=16)
    grads = []
    for backend in (kernel, "reference"):
        leaves = [x.detach().clone().requires_grad_() for x in place(kernel, *tensors)]
        query_attend(*leaves, return_stats=True, backend=backend)[1].mean().backward()
        grads.append([x.grad if x.grad is not None else torch.zeros_like(x) for x in leaves])
        assert leaves[0].grad.norm() > 0
        assert grads[-1][2].norm() == 0  # value plays no part
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("Q", [1, 5])
def test_huge_scores(Q, kernel):
    """Scores of ten thousand: weights are 0 or 1 or shared by equals, and the entropy does not lose its digits."""
    query, key, value = case(Q=Q, N=40, d=16)
    tensors = [query * 300, key * 10, value]
    got, expected = run(tensors, backend=kernel, place_on=kernel), run([x.double() for x in tensors])
    # The gradients of saturated weights vanish; what is left is rounding, of numbers as large as what they multiply.
    for name, size in {"out": 1, "entropy": 1, "grad q": 10, "grad k": 300, "grad v": 1}.items():
        torch.testing.assert_close(got[name].double(), expected[name], rtol=2e-3, atol=3e-6 * size)
    scores = torch.tensor([1e4, -1e4, 1e4 - 1, 1e4])
    key = torch.zeros(1, 1, 700, 1)
    key[..., 100:104, 0] = scores
    key[..., :100, :], key[..., 104:, :] = -1e4, -1e4
    out, entropy, peak = query_attend(
        *place(kernel, torch.ones(1, 1, Q, 1), key, torch.arange(700.0).view(1, 1, 700, 1)), return_stats=True,
        backend=kernel,
    )  # fmt: skip
    p = torch.tensor([1.0, math.exp(-1), 1.0]).double()
    p /= p.sum()
    torch.testing.assert_close(entropy.cpu().double(), -(p * p.log()).sum().expand(1, 1, Q), rtol=1e-6, atol=0)
    expected = (p * torch.tensor([100.0, 102, 103])).sum()
    torch.testing.assert_close(out.cpu().double(), expected.expand(1, 1, Q, 1), rtol=1e-6, atol=0)
    assert (peak == 100).all()


def test_the_entropy_lies_between_zero_and_log_n(kernel):
    query, key, value = case(Q=4, N=513, d=8)
    for scale, expected in ((0.0, math.log(513)), (1e4, 0.0)):
        _, entropy, _ = query_attend(*place(kernel, query, key, value), scale=scale, return_stats=True, backend=kernel)
        torch.testing.assert_close(entropy.cpu(), torch.full((2, 2, 4), expected), rtol=1e-6, atol=1e-6)
        assert (entropy >= 0).all()


@pytest.mark.parametrize("N", [1, 7, 70, 1100])
def test_the_peak_is_the_first_of_equals(N, kernel):
    """Small whole numbers, so that equal scores are equal in any order of summation."""
    query, key, value = (torch.randint(-1, 2, x.shape).float() for x in case(B=1, h=2, Q=16, N=N, d=4))
    scores = query @ key.mT
    _, _, peak = query_attend(*place(kernel, query, key, value), return_stats=True, backend=kernel)
    assert torch.equal(peak.cpu(), scores.argmax(-1))
    first = (scores == scores.amax(-1, keepdim=True)).int().argmax(-1)
    assert torch.equal(peak.cpu(), first)
    same = key[:, :, :1].expand(-1, -1, N, -1) * 0.3
    assert not query_attend(*place(kernel, query, same, value), return_stats=True, backend=kernel)[2].any()


@pytest.mark.parametrize("where", ["query", "key", "value"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_numbers_are_passed_on(where, bad, kernel):
    query, key, value = case(B=1, h=1, Q=2, N=600, d=16)
    {"query": query[0, 0, 1], "key": key[0, 0, 550], "value": value[0, 0, 550]}[where][3] = bad
    tensors = [query, key, value]
    for stats in (True, False):
        got, expected = run(tensors, stats, backend=kernel, place_on=kernel), run(tensors, stats, backend="reference")
        for name in ("out", *(["entropy"] if stats else [])):
            assert torch.equal(got[name].isfinite(), expected[name].isfinite()), name
        if stats:
            assert ((got["peak"] >= 0) & (got["peak"] < 600)).all()


@pytest.mark.parametrize(("B", "S", "Q"), [(0, None, 1), (2, None, 0), (2, 0, 3), (2, 3, 0)])
def test_empties(B, S, Q, kernel, poisoned):
    tensors = case(B=B, S=S, Q=Q, N=5, d=8)
    got, expected = run(tensors, backend=kernel, place_on=kernel), run(tensors, backend="reference")
    for name in expected:
        assert torch.equal(got[name], expected[name])  # key's and value's gradients are zeros


@pytest.mark.skipif(_native.CORE is None, reason="no native core")
def test_the_number_of_threads_does_not_change_a_bit():
    tensors = case(B=3, S=2, h=3, Q=9, N=600, d=40)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(run(tensors, backend="native"))
    torch.set_num_threads(before)
    for name in results[0]:
        assert all(torch.equal(results[0][name], r[name]) for r in results), name


def test_reference_gradient_by_finite_differences():
    tensors = [x.double().requires_grad_() for x in case(B=2, S=2, h=1, Q=2, N=5, d=3)]

    def f(query, key, value):
        return query_attend(query, key, value, return_stats=True)[:2]

    assert torch.autograd.gradcheck(f, tensors)
    assert torch.autograd.gradgradcheck(f, tensors)


def test_it_is_scaled_dot_product_attention():
    tensors = case(Q=3, N=50)
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors)
    for backend in ("auto", "reference"):
        torch.testing.assert_close(query_attend(*tensors, backend=backend), expected)
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors, scale=0.3)
    torch.testing.assert_close(query_attend(*tensors, scale=0.3), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_nothing_of_the_size_of_the_weights_is_saved(dtype, kernel):
    query, key, value = place(kernel, *case(B=2, h=3, Q=2, N=300, d=16, dtype=dtype))
    for x in (query, key, value):
        x.requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.nbytes) or x, lambda x: x):
        with torch.no_grad():
            assert not query_attend(query, key, value, backend=kernel).requires_grad
        assert saved == []
        query_attend(query, key, value, return_stats=True, backend=kernel)
    rows = 2 * 3 * 2 * 4  # lse and entropy, each; out in float32 is 16 times that
    assert sorted(saved) == sorted([query.nbytes, key.nbytes, value.nbytes, 16 * rows, rows, rows])


def test_the_peak_has_no_gradient(kernel):
    leaves = [x.requires_grad_() for x in place(kernel, *case())]
    out, entropy, peak = query_attend(*leaves, return_stats=True, backend=kernel)
    assert out.requires_grad
    assert entropy.requires_grad
    assert not peak.requires_grad


def test_second_derivatives_are_refused(kernel):
    leaves = [x.requires_grad_() for x in place(kernel, *case())]
    out, entropy, _ = query_attend(*leaves, return_stats=True, backend=kernel)
    grads = torch.autograd.grad(out.square().sum() + entropy.sum(), leaves, create_graph=True)
    for grad in grads:
        with pytest.raises(RuntimeError, match="no second derivative; use backend='reference'"):
            grad.sum().backward(retain_graph=True)


@pytest.mark.slow
@pytest.mark.skipif(_native.CORE is None, reason="no native core")
@pytest.mark.parametrize("grouped", [False, True])
def test_compiled_equals_eager(grouped):
    def step(query, key, value):
        out, entropy, peak = query_attend(query, key.transpose(1, 2), value.transpose(1, 2), return_stats=True)
        return out.square().sum() + entropy.mean(), peak

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=True)
    for B, N, Q in ((2, 9, 3), (3, 12, 2), (4, 40, 5)):
        query = torch.randn(B, 2, 2, Q, 8) if grouped else torch.randn(B, 2, Q, 8)
        tensors = query, torch.randn(B, N, 2, 8), torch.randn(B, N, 2, 8)
        results = []
        for function in (step, compiled):
            leaves = [x.clone().requires_grad_() for x in tensors]
            loss, peak = function(*leaves)
            loss.backward()
            results.append([loss.detach(), peak, *(x.grad for x in leaves)])
        for eager, other in zip(*results, strict=True):
            torch.testing.assert_close(other, eager, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"query": torch.randn(2, 3, 8)}, ValueError, r"expected query \[B, h, Q, d\] or \[B, S, h, Q, d\]"),
        ({"key": torch.randn(2, 2, 2, 5, 8)}, ValueError, "expected query"),
        ({"key": torch.randn(3, 2, 5, 8), "value": torch.randn(3, 2, 5, 8)}, ValueError, "agree in B, h and N"),
        ({"value": torch.randn(2, 2, 6, 8)}, ValueError, r"agree in B, h and N; got \(2, 2, 3, 8\), \(2, 2, 5, 8\)"),
        ({"query": torch.randn(2, 4, 1, 3, 8)}, ValueError, "agree in B, h and N"),
        ({"value": torch.randn(2, 2, 5, 4)}, ValueError, "one head dimension d"),
        ({"key": torch.randn(2, 2, 0, 8), "value": torch.randn(2, 2, 0, 8)}, ValueError, "a token to look at"),
        (
            {"key": torch.randn(2, 2, 5, 8).half()},
            TypeError,
            "one floating-point dtype; got torch.float32, torch.float16",
        ),
        ({"query": torch.zeros(2, 2, 3, 8, dtype=torch.int64)}, TypeError, "one floating-point dtype"),
        ({"key": torch.randn(2, 2, 5, 8, device="meta")}, ValueError, "on one device; got query on cpu, key on meta"),
        ({"backend": "cuda"}, ValueError, "backend must be one of"),
    ],
)
def test_refusals_are_sentences(change, error, words):
    arguments = {"query": torch.randn(2, 2, 3, 8), "key": torch.randn(2, 2, 5, 8), "value": torch.randn(2, 2, 5, 8)}
    with pytest.raises(error, match=words):
        query_attend(**{**arguments, **change})


@pytest.mark.skipif(_native.CORE is None, reason="no native core")
def test_float64_insists_on_the_reference():
    tensors = [x.double() for x in case()]
    assert query_attend(*tensors).dtype == torch.float64
    with pytest.raises(TypeError, match=r"query is torch\.float64; the kernel takes float32, bfloat16 or float16"):
        query_attend(*tensors, backend="native")
