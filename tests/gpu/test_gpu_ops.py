"""How the ops behave on a CUDA device; skipped without one. tools/gpu_check.sh runs these.

That their numbers are right is tests/conformance's to say, which runs on the device too where there is one.
"""

import pytest
import torch

from fastvid import _native
from fastvid.ops import gather_tokens, gather_tubelets, masked_latent_loss, multiblock_mask
from tests.gpu.calls import CALLS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=CALLS)
def make(request):
    if request.param.endswith("in CUDA") and not _native.HAS_CUDA_KERNELS:
        pytest.skip("built without nvcc")
    return CALLS[request.param]


def equal(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_runs_agree_bit_for_bit(make, dtype):
    call = make(dtype)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        assert equal(call(), call())
    finally:
        torch.use_deterministic_algorithms(before)


def test_nothing_waits_for_the_device(make):
    call = make(torch.bfloat16)
    call()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_on_a_side_stream(make):
    call = make(torch.bfloat16)
    expected = call()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        beside = call()
    torch.cuda.current_stream().wait_stream(side)
    assert equal(beside, expected)


def test_captured_in_a_graph(make):
    call = make(torch.bfloat16)
    expected = tuple(x.clone() for x in call())
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call()
    for x in captured:
        x.zero_()
    graph.replay()
    assert equal(captured, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_on_a_device_that_is_not_the_current_one():
    ids = torch.arange(8, device="cuda:1")
    visible, masked = multiblock_mask(ids, (4, 7, 7), masked=100, visible=49, seed=0, draw=0)
    x = torch.randn(8, 196, 64, device="cuda:1", requires_grad=True)
    picked = gather_tokens(x, visible)
    loss = masked_latent_loss(gather_tokens(x, masked), x.detach(), masked)
    (loss + picked.sum()).backward()
    assert torch.cuda.current_device() == 0
    assert x.grad.device == ids.device
    assert loss == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_compiled_step_is_one_graph_with_equal_results(dtype):
    def step(clip, ids, weight, target, draw: int):
        visible, masked = multiblock_mask(ids, (2, 4, 4), masked=20, visible=12, seed=3, draw=draw)
        tokens = gather_tubelets(clip, visible, patch=8, dtype=dtype) @ weight
        spread = torch.nn.functional.pad(tokens, (0, 0, 0, masked.shape[1]))
        every = torch.arange(masked.shape[1], device=ids.device).expand(len(ids), -1)
        return masked_latent_loss(gather_tokens(spread, every), target, masked, normalize_target=True) * 2

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=True)
    for batch, draw in ((3, 7), (5, 8), (4, 9)):
        clip = torch.randint(256, (batch, 4, 32, 32, 3), dtype=torch.uint8, device="cuda")
        ids = torch.arange(batch, device="cuda")
        target = torch.randn(batch, 32, 16, device="cuda")
        weight = (torch.randn(3 * 2 * 64, 16, device="cuda") * 0.05).to(dtype)
        results = []
        for function in (step, compiled):
            leaf = weight.clone().requires_grad_()
            loss = function(clip, ids, leaf, target, draw)
            loss.backward()
            results.append((loss.detach(), leaf.grad))
        torch.testing.assert_close(results[1], results[0])


def test_offsets_beyond_two_to_the_31():
    torch.cuda.empty_cache()  # what the allocator keeps is not free to the driver
    free, _ = torch.cuda.mem_get_info()
    rows, width = 2**21 + 3, 1024  # 2**31 elements and a little: 4.3 GB of bfloat16, twice
    if free < 12 << 30:
        pytest.skip("needs 12 GB of free GPU memory")
    x = torch.zeros(1, rows, width, dtype=torch.bfloat16, device="cuda")
    x[0, -1] = 3
    last = torch.tensor([[0, rows - 1]], device="cuda")
    assert gather_tokens(x, last).sum() == 3 * width
    pred = torch.zeros(1, 2, width, dtype=torch.bfloat16, device="cuda")
    assert masked_latent_loss(pred, x, last) == 4.5
    leaf = x.requires_grad_()
    (grad,) = torch.autograd.grad(gather_tokens(leaf, last).sum(), leaf)
    assert grad[0, -1].sum() == width
    assert grad[0, 1:-1].count_nonzero() == 0


def test_an_index_out_of_range_is_loud_and_harmless():
    x = torch.randn(1, 4, 8, device="cuda")
    wild = torch.tensor([[1, 10**9, -5]], device="cuda")
    picked = gather_tokens(x, wild)
    assert torch.equal(picked[0, 0], x[0, 1])
    assert picked[0, 1:].isnan().all()
    assert masked_latent_loss(torch.randn(1, 3, 8, device="cuda"), x, wild).isnan()
    clip = torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8, device="cuda")
    tokens = gather_tubelets(clip, wild, patch=2)
    assert tokens[0, 0].isfinite().all()
    assert tokens[0, 1:].isnan().all()
