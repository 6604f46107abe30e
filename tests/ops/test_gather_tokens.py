import pytest
import torch

from fastvid.ops import gather_tokens


def case(B=3, N=10, K=6, D=5, dtype=torch.float32):
    x = torch.randn(B, N, D).to(dtype)
    return x, torch.stack([torch.randperm(N)[:K] for _ in range(B)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64])
@pytest.mark.parametrize("K", [0, 1, 6, 10])
def test_values_equal_the_reference(dtype, K, poisoned):
    x, index = case(K=K, dtype=dtype)
    assert torch.equal(gather_tokens(x, index, backend="native"), gather_tokens(x, index, backend="reference"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradient_equals_the_reference_and_writes_every_row(dtype, poisoned):
    x, index = case(dtype=dtype)
    upstream = torch.randn(3, 6, 5).to(dtype)
    grads = []
    for backend in ("native", "reference"):
        leaf = x.clone().requires_grad_()
        gather_tokens(leaf, index, backend=backend).backward(upstream)
        grads.append(leaf.grad)
    assert torch.equal(grads[0], grads[1])


def test_reference_gradient_by_finite_differences():
    x, index = case(dtype=torch.float64)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda t: gather_tokens(t, index, backend="reference"), (x,))
    assert torch.autograd.gradcheck(lambda t: gather_tokens(t, index, backend="native"), (x,))


def test_strided_inputs(poisoned):
    x, index = case(B=4, N=10, D=8)
    wide = torch.randn(4, 20, 16)
    wide[:, ::2, :8] = x
    expected = gather_tokens(x, index)
    for view in (wide[:, ::2, :8], x.mT.contiguous().mT, x.permute(1, 0, 2).contiguous().permute(1, 0, 2)):
        leaf = view.detach().requires_grad_()
        out = gather_tokens(leaf, index.mT.contiguous().mT)
        assert torch.equal(out, expected)
        out.backward(torch.ones(()).expand_as(out))
        assert leaf.grad.sum() == out.numel()


def test_a_repeated_index_is_refused_where_it_would_lose_gradient():
    x, index = case()
    index[1, 3] = index[1, 0]
    out = gather_tokens(x.requires_grad_(), index)  # the values are well defined
    with pytest.raises(ValueError, match=r"index\[1\] holds \d twice"):
        out.sum().backward()


@pytest.mark.parametrize("width", [256, 250, 251])  # rows of whole cache lines, of whole words, and of neither
def test_large_outputs_are_written_whole_into_new_and_used_memory(width):
    """Beyond 4 MB stores may bypass the cache, which depends on the memory that the allocator gives."""
    x, index = torch.randn(2, 3000, width), torch.stack([torch.randperm(3000)[:2200] for _ in range(2)])
    upstream = torch.randn(2, 2200, width)
    expected = torch.zeros_like(x).scatter_(1, index[..., None].expand_as(upstream), upstream)
    for _ in range(2):
        leaf = x.detach().requires_grad_()
        out = gather_tokens(leaf, index)
        assert torch.equal(out, torch.take_along_dim(x, index[..., None], 1))
        assert torch.equal(torch.autograd.grad(out, leaf, upstream)[0], expected)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"x": torch.randn(3, 10)}, ValueError, "expected x"),
        ({"index": torch.zeros(2, 6, dtype=torch.int64)}, ValueError, "expected x"),
        ({"index": torch.zeros(3, 6, dtype=torch.int32)}, TypeError, "index must be int64"),
        ({"index": torch.full((3, 6), 10)}, IndexError, r"index\[0, 0\] is 10, outside \[0, 10\)"),
        ({"index": torch.full((3, 6), -1)}, IndexError, "is -1, outside"),
    ],
)
def test_refusals_are_sentences(change, error, words):
    x, index = case()
    with pytest.raises(error, match=words):
        gather_tokens(**{"x": x, "index": index, **change})
