"""What is measured on a CUDA device; skipped without one."""

import pytest
import torch

from fastvid import _native
from fastvid.ops import MaskSpec, multiblock_mask

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() and _native.HAS_CUDA_KERNELS), reason="no CUDA device, or built without nvcc"
)


@pytest.mark.parametrize("name", ["multiblock", "salt", "vjepa_short", "vjepa_long", "tube", "random"])
def test_multiblock_mask_on_a_gpu(name, benchmark):
    """Time of one launch inside a CUDA graph, 32 samples of 8 x 14 x 14: the launch itself is not in it."""
    ids = torch.arange(32).cuda()
    spec, launches = getattr(MaskSpec, name)(), 100
    arguments = {"masked": 784, "visible": 392, "spec": spec, "seed": 0, "draw": 0, "backend": "native"}
    assert torch.equal(
        multiblock_mask(ids, (8, 14, 14), **arguments)[1].cpu(),
        multiblock_mask(ids.cpu(), (8, 14, 14), **arguments)[1],
    )
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(launches):
            multiblock_mask(ids, (8, 14, 14), **arguments)

    def replay():
        graph.replay()
        torch.cuda.synchronize()

    benchmark.pedantic(replay, rounds=20, warmup_rounds=3)
    benchmark.extra_info.update(
        us_per_launch=1e6 * benchmark.stats.stats.median / launches, gpu=torch.cuda.get_device_name()
    )
