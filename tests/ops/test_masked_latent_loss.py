import pytest
import torch

from fastvid.ops import masked_latent_loss, masked_mse, quantize_tokens

KINDS = ["mse", "l1", "smooth_l1", "cosine"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def case(B=3, M=5, N=9, D=33, pred=torch.float32, target=torch.float32):
    p = torch.randn(B, M, D).to(pred)
    t = (torch.randn(B, N, D) * 2 + 1).to(target)
    masked = torch.stack([torch.randperm(N)[:M].sort().values for _ in range(B)])
    return p, t, masked


def loss_and_grad(p, t, masked, **kwargs):
    p = p.detach().clone().requires_grad_()
    loss = masked_latent_loss(p, t, masked, **kwargs)
    loss.backward()
    return loss.detach(), p.grad


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pred", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_error_is_at_most_twice_that_of_the_reference(kind, normalize, pred, target, isa, poisoned):
    """Against float64 on the same inputs, values and gradients."""
    p, t, masked = case(B=4, M=60, N=100, D=200, pred=pred, target=target)
    options = {"kind": kind, "normalize_target": normalize}
    gold_loss, gold_grad = loss_and_grad(p.double(), t.double(), masked, **options)
    ref_loss, ref_grad = loss_and_grad(p, t, masked, backend="reference", **options)
    loss, grad = loss_and_grad(p, t, masked, backend="native", **options)
    assert loss.dtype == torch.float32
    assert grad.dtype == pred
    # Where the reference happens to be exact, the rounding of the result itself is allowed.
    slack = torch.finfo(torch.float32).eps * gold_loss
    assert (loss - gold_loss).abs() <= 2 * (ref_loss - gold_loss).abs() + slack
    ref_error, error = (ref_grad - gold_grad).norm(), (grad - gold_grad).norm()
    assert error <= 2 * ref_error + torch.finfo(pred).eps * 0.5 * gold_grad.norm()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 7), (1, 5, 5, 31), (3, 1, 2, 129), (2, 64, 64, 16)])
def test_odd_sizes(kind, shape, isa, poisoned):
    B, M, N, D = shape
    p, t, masked = case(B, M, N, D)
    for normalize in (False, True):
        ref_loss, ref_grad = loss_and_grad(p, t, masked, kind=kind, normalize_target=normalize, backend="reference")
        loss, grad = loss_and_grad(p, t, masked, kind=kind, normalize_target=normalize, backend="native")
        torch.testing.assert_close(loss, ref_loss, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(grad, ref_grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalize", [False, True])
def test_reference_gradient_by_finite_differences(kind, normalize):
    p, t, masked = case(D=6)
    p = p.double().requires_grad_()

    def f(pred):
        return masked_latent_loss(pred, t.double(), masked, kind=kind, normalize_target=normalize)

    assert torch.autograd.gradcheck(f, (p,))


def test_strided_inputs_are_read_in_place(poisoned):
    p, t, masked = case(B=4, M=6, N=10, D=32)
    wide = torch.randn(4, 6, 64)
    wide[..., :32] = p
    slotted = torch.randn(4, 20, 32)
    slotted[:, ::2] = t
    expected = masked_latent_loss(p, t, masked, normalize_target=True)
    for pred, target in [(wide[..., :32], t), (p, slotted[:, ::2]), (p.mT.contiguous().mT, t)]:
        assert torch.equal(masked_latent_loss(pred, target, masked, normalize_target=True), expected)
    one = t[:1].expand(4, -1, -1)
    assert torch.equal(masked_mse(p, one, masked), masked_mse(p, one.contiguous(), masked))
    assert torch.equal(masked_mse(p, t, masked.mT.contiguous().mT), masked_mse(p, t, masked))


def test_no_masked_tokens_give_zero_and_an_empty_gradient():
    p, t, masked = case(M=0)
    for backend in ("native", "reference"):
        loss, grad = loss_and_grad(p, t, masked, backend=backend)
        assert loss == 0
        assert grad.shape == p.shape


def test_the_number_of_threads_does_not_change_a_bit():
    p, t, masked = case(B=4, M=100, N=150, D=96)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(loss_and_grad(p, t, masked, normalize_target=True))
    torch.set_num_threads(before)
    assert all(torch.equal(results[0][0], r[0]) and torch.equal(results[0][1], r[1]) for r in results)


def test_scaled_losses_and_repeated_backward():
    p, t, masked = case()
    _, unit = loss_and_grad(p, t, masked)
    q = p.clone().requires_grad_()
    loss = masked_mse(q, t, masked)
    (loss * 3).backward(retain_graph=True)
    torch.testing.assert_close(q.grad, 3 * unit)
    loss.backward()
    torch.testing.assert_close(q.grad, 4 * unit)
    (first,) = torch.autograd.grad(masked_mse(q, t, masked) / 2, q)
    torch.testing.assert_close(first, unit / 2)


def test_float16_gradients_do_not_underflow():
    """The mean over 2**22 elements makes gradients of 1e-7, too small for float16; a loss scale must rescue them."""
    p, t, masked = case(B=2, M=2048, N=2048, D=1024, pred=torch.float16, target=torch.float16)
    p.requires_grad_()
    (masked_mse(p, t, masked) * 65536).backward()
    expected = 65536 * 2 * (p.detach().float() - torch.take_along_dim(t.float(), masked[..., None], 1)) / p.numel()
    torch.testing.assert_close(p.grad.float(), expected, rtol=3e-3, atol=1e-6)


def test_without_grad_nothing_is_kept_for_it():
    p, t, masked = case()
    p.requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.nbytes) or x, lambda x: x):
        with torch.no_grad():
            assert not masked_mse(p, t, masked).requires_grad
        assert saved == []
        masked_mse(p, t, masked)
    assert saved == [p.nbytes]  # the gradient itself, and neither pred nor target


def test_second_derivatives_are_refused():
    p, t, masked = case()
    p.requires_grad_()
    (grad,) = torch.autograd.grad(masked_mse(p, t, masked), p, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative; use backend='reference'"):
        (grad.square().sum() + p.sum()).backward()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_weighted_loss_is_the_mean_over_the_weights_sum(kind, backend, isa, poisoned):
    """Against the rows' own losses, one call each."""
    p, t, masked = case(B=2, M=4, N=6, D=20)
    weight = torch.tensor([[0.5, 0.0, 3.0, 1.0], [2.0, 0.25, 0.0, 1.5]])
    options = {"kind": kind, "normalize_target": True, "backend": backend}
    q = p.clone().requires_grad_()
    rows = [masked_latent_loss(q[b : b + 1, m : m + 1], t[b : b + 1], masked[b : b + 1, m : m + 1], **options)
            for b in range(2) for m in range(4)]  # fmt: skip
    expected = (torch.stack(rows) * weight.flatten()).sum() / weight.sum()
    expected.backward()
    for factor in (1.0, 1e-30, 1e30):
        loss, grad = loss_and_grad(p, t, masked, weight=weight * factor, **options)
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(grad, q.grad, rtol=1e-5, atol=1e-8)
        assert grad[0, 1].count_nonzero() == 0


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_equal_weights_change_nothing_and_weights_of_zero_give_zero(backend):
    p, t, masked = case()
    plain, slope = loss_and_grad(p, t, masked, backend=backend)
    loss, grad = loss_and_grad(p, t, masked, weight=torch.full((3, 5), 0.3), backend=backend)
    torch.testing.assert_close((loss, grad), (plain, slope))
    loss, grad = loss_and_grad(p, t, masked, weight=torch.zeros(3, 5), backend=backend)
    assert loss == 0
    assert grad.count_nonzero() == 0
    p, t, masked = case(M=0)
    assert loss_and_grad(p, t, masked, weight=torch.zeros(3, 0), backend=backend)[0] == 0


def test_a_weighted_float16_gradient_neither_underflows_nor_overflows():
    """One token counts 3,000 times as much as the mean, in a loss whose weights are far from 1."""
    p, t, masked = case(B=2, M=2048, N=2048, D=64, pred=torch.float16, target=torch.float16)
    weight = torch.full((2, 2048), 1e-10)
    weight[0, 0] = 1e-6
    p.requires_grad_()
    (masked_latent_loss(p, t, masked, kind="l1", weight=weight) * 2**20).backward()
    q = p.detach().double().requires_grad_()
    (masked_latent_loss(q, t.double(), masked, kind="l1", weight=weight.double()) * 2**20).backward()
    assert p.grad.isfinite().all()
    torch.testing.assert_close(p.grad.double(), q.grad, rtol=2e-3, atol=2**-24)
    assert p.grad[1].abs().median() > 1


def test_a_negative_weight_that_nothing_waits_for_shows():
    from fastvid.ops.masked_latent_loss.reference import normalized_weight

    assert normalized_weight(torch.tensor([[1.0, -1.0]])).isnan().tolist() == [[False, True]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_bad_numbers_are_passed_on(value, kind):
    p, t, masked = case()
    p[0, 0, 0] = value
    loss, _ = loss_and_grad(p, t, masked, kind=kind)
    assert not torch.isfinite(loss) or (kind == "cosine" and torch.isnan(loss))


def test_quantized_tokens_are_within_half_a_step():
    x = torch.randn(3, 9, 33) * torch.logspace(-2, 4, 9).unsqueeze(-1)
    x[0, 0] = 0
    values, scale = quantize_tokens(x)
    assert (values.dtype, scale.dtype, scale.shape) == (torch.int8, torch.float16, (3, 9))
    error = (values.float() * scale.float().unsqueeze(-1) - x).abs().amax(-1)
    assert (error <= 0.505 * x.abs().amax(-1) / 127 + 1e-6).all()  # half a step, and the rounding of the scale


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("kind", KINDS)
def test_quantized_targets_are_dequantised_in_the_pass(kind, backend, isa):
    p, t, masked = case(B=4, M=20, N=30, D=100)
    values, scale = quantize_tokens(t)
    widened = values.float() * scale.float().unsqueeze(-1)
    options = {"kind": kind, "normalize_target": True, "backend": backend}
    expected = loss_and_grad(p, widened, masked, **options)
    got = loss_and_grad(p, values, masked, target_scale=scale.mT.contiguous().mT, **options)
    torch.testing.assert_close(got, expected)
    assert loss_and_grad(p.double(), values, masked, target_scale=scale)[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"target": torch.zeros(3, 9, 33, dtype=torch.int8)}, TypeError, "an int8 target needs target_scale"),
        ({"target_scale": torch.ones(3, 9).half()}, TypeError, "target_scale goes with an int8 target"),
        (
            {"target": torch.zeros(3, 9, 33, dtype=torch.int8), "target_scale": torch.ones(3, 8).half()},
            ValueError,
            r"target_scale must be \[B, N\]",
        ),
        ({"weight": torch.ones(3, 5).half()}, TypeError, "weight must be torch.float32"),
        ({"weight": torch.ones(3, 4)}, ValueError, r"weight must be \[B, M\]"),
        ({"weight": torch.full((3, 5), -0.5)}, ValueError, "weight must be at least 0, and its least is -0.5"),
        ({"kind": "huber"}, ValueError, "kind must be one of"),
        ({"masked": torch.zeros(3, 5, dtype=torch.int32)}, TypeError, "masked must be int64"),
        ({"masked": torch.zeros(3, 4, dtype=torch.int64)}, ValueError, "do not fit"),
        ({"masked": torch.full((3, 5), 9)}, IndexError, r"masked\[0, 0\] is 9, outside \[0, 9\)"),
        ({"masked": torch.full((3, 5), -1)}, IndexError, r"is -1, outside"),
        ({"target": torch.randn(3, 9, 8)}, ValueError, "do not fit"),
        ({"target": torch.randn(9, 33)}, ValueError, "expected pred"),
        ({"target": torch.randn(3, 9, 33, requires_grad=True)}, ValueError, "target requires grad"),
        ({"target": torch.randn(3, 9, 33).double()}, TypeError, "float64 does not mix"),
        ({"target": torch.zeros(3, 9, 33, dtype=torch.int64)}, TypeError, "must be floating point"),
        ({"backend": "cuda"}, ValueError, "backend must be one of"),
    ],
)
def test_refusals_are_sentences(change, error, words):
    p, t, masked = case()
    arguments = {"pred": p, "target": t, "masked": masked, **change}
    with pytest.raises(error, match=words):
        masked_latent_loss(**arguments)


def test_float64_insists_on_the_reference():
    p, t, masked = case()
    assert masked_mse(p.double(), t.double(), masked).dtype == torch.float64
    with pytest.raises(TypeError, match="the kernel takes float32, bfloat16 or float16"):
        masked_mse(p.double(), t.double(), masked, backend="native")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [512, 515])
def test_large_gradients_are_written_whole_and_scaled(isa, dtype, width):
    """Beyond 4 MB stores may bypass the cache; an upstream gradient that is not 1 takes another pass."""
    masked = torch.stack([torch.randperm(3000)[:2200] for _ in range(2)])
    target = torch.randn(2, 3000, width).to(dtype)
    pred = torch.randn(2, 2200, width).to(dtype).requires_grad_()
    for kind, upstream in (("mse", 1.0), ("l1", 4096.0)):
        results = []
        for backend in ("reference", "native"):
            loss = masked_latent_loss(pred, target, masked, kind=kind, backend=backend)
            results.append(torch.autograd.grad(loss, pred, torch.tensor(upstream))[0])
        near = 1e-6 if dtype == torch.float32 else 1e-2
        step = 2**-24 if dtype == torch.float16 else 1e-12  # of float16 near zero
        torch.testing.assert_close(results[1], results[0], rtol=near, atol=step)
