"""How an op must behave on a device, beside being right: a check raises AssertionError, or what the device raises."""

from collections.abc import Callable

import torch

from fastvid.ops import gather_tokens, gather_tubelets, masked_latent_loss, multiblock_mask
from tests.gpu.calls import Call
from tests.gpu.streams import CudaOrCpu


def check_two_runs_agree(call: Call, device: CudaOrCpu) -> None:
    """Two runs give the same bits, also where torch insists on deterministic algorithms."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        _check_equal(call(), call())
    finally:
        torch.use_deterministic_algorithms(before)


def check_nothing_waits(call: Call, device: CudaOrCpu) -> None:
    """The host does not wait for the device."""
    call()
    with device.no_waiting():
        call()


def check_side_stream(call: Call, device: CudaOrCpu) -> None:
    """Results on a second stream are those on the first."""
    expected = call()
    with device.side_stream():
        beside = call()
    _check_equal(beside, expected)


def check_graph(call: Call, device: CudaOrCpu) -> None:
    """A replayed graph writes the results anew."""
    expected = tuple(x.clone() for x in call())
    with device.side_stream():
        call()
    captured, replay = device.capture(call)
    for x in captured:
        x.zero_()
    replay()
    _check_equal(captured, expected)


CHECKS: dict[str, Callable[[Call, CudaOrCpu], None]] = {
    "two runs agree": check_two_runs_agree,
    "nothing waits": check_nothing_waits,
    "side stream": check_side_stream,
    "graph": check_graph,
}


def check_compiled_step(dtype: torch.dtype, device: CudaOrCpu) -> None:
    """A step of several ops is one graph for all sizes, and gives the eager step's loss and gradient."""

    def step(clip, ids, weight, target, draw: int):
        visible, masked = multiblock_mask(ids, (2, 4, 4), masked=20, visible=12, seed=3, draw=draw)
        tokens = gather_tubelets(clip, visible, patch=8, dtype=dtype) @ weight
        spread = torch.nn.functional.pad(tokens, (0, 0, 0, masked.shape[1]))
        every = torch.arange(masked.shape[1], device=ids.device).expand(len(ids), -1)
        return masked_latent_loss(gather_tokens(spread, every), target, masked, normalize_target=True) * 2

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend=device.compiler)
    for batch, draw in ((3, 7), (5, 8), (4, 9)):
        clip = torch.randint(256, (batch, 4, 32, 32, 3), dtype=torch.uint8, device=device.kind)
        ids = torch.arange(batch, device=device.kind)
        target = torch.randn(batch, 32, 16, device=device.kind)
        weight = (torch.randn(3 * 2 * 64, 16, device=device.kind) * 0.05).to(dtype)
        results = []
        for function in (step, compiled):
            leaf = weight.clone().requires_grad_()
            loss = function(clip, ids, leaf, target, draw)
            loss.backward()
            results.append((loss.detach(), leaf.grad))
        torch.testing.assert_close(results[1], results[0])


def _check_equal(got: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> None:
    for i, (x, y) in enumerate(zip(got, expected, strict=True)):
        assert torch.equal(x, y), f"result {i} differs in {int((x != y).sum())} of {x.numel()} elements"
