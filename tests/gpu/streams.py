"""What a device can do beside computing: streams, graphs, and saying that nothing waits.

``Cpu`` goes the same way with the device's own calls left out, so that a machine without a GPU finds their mistakes.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch

from tests.gpu.calls import Call

Results = tuple[torch.Tensor, ...]


class Cuda:
    """The current CUDA device."""

    kind = "cuda"
    compiler = "inductor"

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    @contextlib.contextmanager
    def side_stream(self) -> Iterator[None]:
        """Run what is inside on a stream of its own, between what comes before and after."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            yield
        torch.cuda.current_stream().wait_stream(side)

    def capture(self, call: Call) -> tuple[Results, Callable[[], object]]:
        """A graph of one call: where its results will be, and what replays it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = call()
        return results, graph.replay

    @contextlib.contextmanager
    def no_waiting(self) -> Iterator[None]:
        """Raise where the host waits for the device."""
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


class Cpu:
    """A device without streams, graphs and waiting; compiled code is traced and not generated."""

    kind = "cpu"
    compiler = "aot_eager"

    def synchronize(self) -> None:
        pass

    @contextlib.contextmanager
    def side_stream(self) -> Iterator[None]:
        yield

    def capture(self, call: Call) -> tuple[Results, Callable[[], object]]:
        results = call()

        def replay() -> None:
            for result, value in zip(results, call(), strict=True):
                result.copy_(value)

        return results, replay

    @contextlib.contextmanager
    def no_waiting(self) -> Iterator[None]:
        yield


CudaOrCpu = Cuda | Cpu
