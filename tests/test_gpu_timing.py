"""What the GPU's timer decides, with a pretended CUDA: which part is replayed, timed eagerly, or a difference."""

import contextlib
import types
import warnings

import pytest
import torch

from benchmarks.harness import gpu_timing
from benchmarks.harness.timing import Call, Variant


class Pretended:
    """Stands in for torch.cuda. Every timed call takes as many milliseconds as ``cost`` says, by how it is run."""

    def __init__(self):
        self.clock = 0.0
        self.mode = 0
        self.capturing = None
        cuda = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                self.at = cuda.clock

            def elapsed_time(self, end):
                return end.at - self.at

        class CUDAGraph:
            def __init__(self):
                self.calls = []

            def replay(self):
                for milliseconds in self.calls:
                    cuda.clock += milliseconds

        self.Event, self.CUDAGraph = Event, CUDAGraph
        self.Stream = lambda: types.SimpleNamespace(wait_stream=lambda other: None)

    def work(self, milliseconds):
        """A kernel."""
        if self.capturing is None:
            self.clock += milliseconds
        else:
            self.capturing.calls.append(milliseconds)

    def wait(self):
        """What ``item()`` does."""
        if self.mode == "error":
            raise RuntimeError("called a synchronizing CUDA operation")

    @contextlib.contextmanager
    def graph(self, graph, pool, stream):
        self.capturing = graph
        try:
            yield
        finally:
            self.capturing = None
        if not graph.calls:
            warnings.warn("The CUDA Graph is empty.", stacklevel=2)

    def get_sync_debug_mode(self):
        return self.mode

    def set_sync_debug_mode(self, mode):
        self.mode = mode

    @contextlib.contextmanager
    def stream(self, stream):
        yield

    def __getattr__(self, name):
        return {"memory_allocated": lambda: 100, "max_memory_allocated": lambda: 350}.get(name, lambda: None)


@pytest.fixture
def cuda(monkeypatch):
    pretended = Pretended()
    monkeypatch.setattr(torch, "cuda", pretended)
    monkeypatch.setattr(gpu_timing, "flush_buffer", lambda: torch.empty(8))
    event = types.SimpleNamespace(device_type=torch.autograd.DeviceType.CUDA, is_user_annotation=False, name="kernel")
    event.device_time_total = 2000.0
    waiting = types.SimpleNamespace(**{**vars(event), "name": "Context Sync"})
    profile = types.SimpleNamespace(events=lambda: [event, event, waiting])
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: contextlib.nullcontext(profile))
    return pretended


class Passes(torch.autograd.Function):
    """3 ms forward and 5 ms backward."""

    @staticmethod
    def forward(ctx, x, cuda):
        ctx.cuda = cuda
        cuda.work(3.0)
        return x.sum()

    @staticmethod
    def backward(ctx, grad):
        ctx.cuda.work(5.0)
        return torch.ones(4), None


def test_passes_are_replayed_apart(cuda):
    x = torch.ones(4, requires_grad=True)
    timer = gpu_timing.GpuTimer({"fastvid": Variant(lambda: Passes.apply(x, cuda), [x])})
    times = {part: variants["fastvid"] for part, variants in timer.times(1).items()}
    assert {part: (t.median, t.how) for part, t in times.items()} == {
        "forward": (3.0, "graph"),
        "backward": (5.0, "graph"),
        "forward + backward": (8.0, "graph"),
    }
    assert timer.facts()["forward"]["fastvid"] == {"peak_bytes": 250, "launches": 2, "kernel_ms": 4.0}


def test_a_backward_pass_that_runs_once_is_a_difference(cuda):
    x = torch.ones(4, requires_grad=True)

    class Donating(Passes):
        @staticmethod
        def backward(ctx, grad):
            if kept:
                raise RuntimeError("compiled with non-empty donated buffers\nand more")
            return Passes.backward(ctx, grad)

    kept = []
    plain = Variant.backward

    def backward(self, output, keep=False):
        kept[:] = [True] * keep
        return plain(self, output, keep)

    variant = Variant(lambda: Donating.apply(x, cuda), [x])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Variant, "backward", backward)
        times = gpu_timing.GpuTimer({"fastvid": variant}).times(1)
    assert times["backward"]["fastvid"].median == 5.0
    assert times["backward"]["fastvid"].how == "difference: compiled with non-empty donated buffers"


def test_what_waits_or_loops_is_timed_eagerly(cuda):
    def waits():
        cuda.wait()
        cuda.work(2.0)

    variants = {"fastvid": Variant(lambda: cuda.work(1.0), calls=100), "waits": Variant(waits)}
    variants["loops"] = Variant(lambda: cuda.work(7.0), capture=False)
    times = gpu_timing.GpuTimer(variants).times(1)["forward"]
    assert {variant: (t.median, t.how) for variant, t in times.items()} == {
        "fastvid": (pytest.approx(1.0), "graph"),
        "waits": (2.0, "eager"),
        "loops": (7.0, "eager"),
    }
    assert cuda.mode == 0


def test_an_error_that_is_not_about_waiting_is_raised(cuda):
    def broken():
        if cuda.mode == "error":
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        gpu_timing.GpuTimer({"fastvid": Call(broken)})


def test_a_graph_without_a_kernel_is_an_error(cuda):
    with pytest.raises(RuntimeError, match="fastvid: the GPU ran nothing for it"):
        gpu_timing.GpuTimer({"fastvid": Call(lambda: torch.ones(1))})


def test_what_is_never_replayed_takes_its_own_number_of_rounds(cuda):
    epochs = []
    timer = gpu_timing.GpuTimer({"fastvid": Call(lambda: epochs.append(cuda.work(9.0)), capture=False)})
    prepared = len(epochs)
    assert timer.times(4)["call"]["fastvid"].median == 9.0
    assert len(epochs) == prepared + 4
