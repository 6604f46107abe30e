"""What runs on a CUDA device; skipped without one. tools/gpu_check.sh runs these."""

import warnings

import pytest
import torch

from fastvid import _native
from fastvid.ops import MaskSpec, gather_tokens, gather_tubelets, masked_latent_loss, multiblock_mask

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
needs_kernels = pytest.mark.skipif(not _native.HAS_CUDA_KERNELS, reason="built without nvcc")

SPECS = {
    "multiblock": MaskSpec.multiblock(),
    "short blocks": MaskSpec.multiblock(temporal=(0.1, 0.5), area=(0.05, 0.4), aspect=(0.3, 3.0)),
    "salt": MaskSpec.salt(),
    "vjepa_short": MaskSpec.vjepa_short(),
    "vjepa_long tail": MaskSpec.vjepa_long(truncate="tail"),
    "random": MaskSpec.random(),
    "tube": MaskSpec.tube(),
}
COUNTS = [
    ((8, 14, 14), 1176, 392),
    ((8, 14, 14), 800, 240),
    ((8, 14, 14), 1568, 0),
    ((3, 7, 5), 60, 30),
    ((1, 1, 1), 1, 0),
]


@needs_kernels
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    ("grid", "masked", "visible"), [*COUNTS, ((16, 32, 32), 12288, 4096), ((32, 40, 40), 38400, 12800)]
)
def test_masks_are_those_of_the_cpu_bit_for_bit(name, grid, masked, visible):
    ids = torch.randint(2**62, (16,))
    arguments = {"masked": masked, "visible": visible, "spec": SPECS[name], "seed": 2**61 + 7, "draw": 12345}
    cpu = multiblock_mask(ids, grid, **arguments)
    gpu = multiblock_mask(ids.cuda(), grid, backend="native", **arguments)
    again = multiblock_mask(ids.cuda(), grid, backend="native", **arguments)
    assert torch.equal(gpu[0].cpu(), cpu[0])
    assert torch.equal(gpu[1].cpu(), cpu[1])
    assert torch.equal(gpu[1], again[1])


@needs_kernels
def test_masks_never_wait_for_the_device():
    ids = torch.arange(32).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for spec in SPECS.values():
            multiblock_mask(ids, (8, 14, 14), masked=1176, visible=392, spec=spec, seed=0, draw=0, backend="native")
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_kernels
def test_masks_on_a_side_stream_and_in_a_graph():
    ids = torch.arange(32).cuda()
    arguments = {"masked": 1176, "visible": 392, "spec": MaskSpec.salt(), "seed": 0, "draw": 3, "backend": "native"}
    expected = multiblock_mask(ids, (8, 14, 14), **arguments)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        beside = multiblock_mask(ids, (8, 14, 14), **arguments)
    torch.cuda.current_stream().wait_stream(side)
    assert torch.equal(beside[1], expected[1])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = multiblock_mask(ids, (8, 14, 14), **arguments)
    captured[1].zero_()
    graph.replay()
    assert torch.equal(captured[1], expected[1])


@needs_kernels
def test_masks_under_compile():
    ids = torch.arange(8).cuda()

    def f(ids, draw: int):
        visible, masked = multiblock_mask(ids, (4, 6, 6), masked=100, visible=44, seed=0, draw=draw)
        return visible * 2, masked + 1

    compiled = torch.compile(f, fullgraph=True, dynamic=True)
    for draw in (5, 6, 7):
        assert all(torch.equal(a, b) for a, b in zip(compiled(ids, draw), f(ids, draw), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ops_without_a_cuda_kernel_run_their_reference(dtype):
    clip = torch.randint(256, (2, 4, 64, 64, 3), dtype=torch.uint8)
    visible, masked = multiblock_mask(torch.arange(2), (2, 4, 4), masked=20, visible=12, seed=0, draw=0)
    pred, target = torch.randn(2, 20, 8).to(dtype), torch.randn(2, 32, 8).to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokens = gather_tubelets(clip.cuda(), visible.cuda(), dtype=dtype)
        assert torch.equal(gather_tokens(tokens, visible.cuda() % 12)[0, 0], tokens[0, visible[0, 0] % 12])
        leaf = pred.cuda().requires_grad_()
        loss = masked_latent_loss(leaf, target.cuda(), masked.cuda(), normalize_target=True)
        loss.backward()
    cpu = pred.clone().requires_grad_()
    expected = masked_latent_loss(cpu, target, masked, normalize_target=True)
    expected.backward()
    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(leaf.grad.cpu(), cpu.grad, rtol=2e-2, atol=1e-4)
    torch.testing.assert_close(tokens.cpu(), gather_tubelets(clip, visible, dtype=dtype), rtol=1e-2, atol=1e-2)
    with pytest.raises(RuntimeError, match="this version has no CUDA kernel for gather_tokens"):
        gather_tokens(tokens, visible.cuda(), backend="native")
