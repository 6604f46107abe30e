"""How the ops behave on a CUDA device; skipped without one. tools/gpu_check.sh runs these.

That their numbers are right is tests/conformance's to say, which runs on the device too where there is one.
"""

import pytest
import torch

from fastvid import _native
from fastvid.ops import gather_tokens, gather_tubelets, masked_latent_loss, multiblock_mask
from tests.gpu import behaviour
from tests.gpu.calls import CALLS
from tests.gpu.streams import Cuda

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=CALLS)
def make(request):
    if request.param.endswith("in CUDA") and not _native.HAS_CUDA_KERNELS:
        pytest.skip("built without nvcc")
    return CALLS[request.param]


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_runs_agree_bit_for_bit(make, dtype):
    behaviour.check_two_runs_agree(make(dtype, "cuda"), Cuda())


@pytest.mark.parametrize("check", [name for name in behaviour.CHECKS if name != "two runs agree"])
def test_an_op_behaves(make, check):
    behaviour.CHECKS[check](make(torch.bfloat16, "cuda"), Cuda())


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
    behaviour.check_compiled_step(dtype, Cuda())


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
