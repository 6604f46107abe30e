"""The GPU's timer: replays of CUDA graphs between events, with the L2 cache flushed before each."""

import gc
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.harness.timing import BACKWARD, BOTH, CALL, FORWARD, Timed, Variant, summary

_WARMUP, _LONG = 3, 0.2  # calls before any is timed; after one of so many seconds it is enough
_ROUNDS = 30  # at least, of replays: they are cheap
_FLUSH = 512 << 20  # long enough to write for the replay after it to be queued before it ends, also on an H200
_NO_KERNEL = "the GPU ran nothing for it: are its tensors on the CPU?"


@dataclass
class Run:
    """One timed run between two events: ``calls`` calls, replayed from a graph or, where ``how`` says so, eager."""

    replay: Callable[[], object]
    how: str
    calls: int = 1


class NotRetained(Exception):
    """A backward pass that cannot be run twice over one forward pass."""


def flush_buffer() -> torch.Tensor:
    """Return a buffer to write between replays, which evicts everything else from the L2 cache."""
    size = max(_FLUSH, 2 * torch.cuda.get_device_properties().L2_cache_size)
    return torch.empty(size, dtype=torch.uint8, device="cuda")


class GpuTimer:
    """Captures every part of every variant once, and then times replays in turns, as often as asked."""

    def __init__(self, variants: Mapping[str, Variant]):
        gc.collect()  # what the last benchmark left
        torch.cuda.empty_cache()
        self.stream = torch.cuda.Stream()
        self.stream.wait_stream(torch.cuda.current_stream())
        # One pool for all graphs: replays follow one another and nobody reads what they leave there.
        self.pool = torch.cuda.graph_pool_handle()
        self.flush = flush_buffer()
        self.runs: dict[str, dict[str, Run]] = {}
        self.found: dict[str, dict[str, dict]] = {}
        self.no_retain: dict[str, str] = {}
        self.kept: list[object] = []  # outputs whose backward passes are replayed
        for name, variant in variants.items():
            self._prepare(name, variant)

    def _prepare(self, name: str, variant: Variant) -> None:
        for part in variant.parts:
            try:
                call = self._call(variant, part)
            except NotRetained as reason:
                self.no_retain[name] = str(reason)
                continue
            peak, launches, kernel_ms = self._facts(call, 3 if variant.capture else 1)
            facts = {"peak_bytes": peak, "launches": launches, "kernel_ms": kernel_ms}
            self.found.setdefault(part, {})[name] = facts
            self.runs.setdefault(part, {})[name] = self._capture(name, call, variant)

    def _call(self, variant: Variant, part: str) -> Callable[[], object]:
        """Return the function of one part, warmed up: compiled, tuned, and its nodes of autograd created on our
        stream."""
        with torch.cuda.stream(self.stream):
            if part == BACKWARD:
                output = variant.forward()
                self.kept.append(output)

                def call() -> object:
                    return variant.backward(output, keep=True)

                try:
                    call()
                except RuntimeError as error:  # compiled code gives its buffers away
                    raise NotRetained(str(error).splitlines()[0]) from None
            else:
                call = {FORWARD: variant.forward, CALL: variant.forward, BOTH: variant.both}[part]
            for _ in range(_WARMUP):
                began = time.perf_counter()
                call()
                if time.perf_counter() - began > _LONG:
                    break
        torch.cuda.synchronize()
        return call

    def _facts(self, call: Callable[[], object], profiles: int) -> tuple[int, int | None, float | None]:
        """Return peak bytes over what was allocated before, number of kernels, copies and fills, and their summed ms.

        ``profiles``: of whose sums the median is taken; one of a whole step takes seconds.
        """
        with torch.cuda.stream(self.stream):
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            result = call()
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() - before
            del result
            sums = []
            for _ in range(profiles):
                self.flush.zero_()
                torch.cuda.synchronize()
                with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
                    call()
                    torch.cuda.synchronize()
                device = [
                    event
                    for event in profile.events() or ()
                    if event.device_type == torch.autograd.DeviceType.CUDA
                    and not event.is_user_annotation
                    and event.name != "Context Sync"
                ]
                sums.append((sum(event.device_time_total for event in device) / 1e3, len(device)))
        kernel_ms, launches = sorted(sums)[profiles // 2]
        return peak, launches or None, kernel_ms or None

    def _capture(self, name: str, call: Callable[[], object], variant: Variant) -> Run:
        if not variant.capture or self._waits(call):
            return Run(call, "eager")
        graph = torch.cuda.CUDAGraph()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                    for _ in range(variant.calls):
                        call()
            except RuntimeError as error:
                torch.cuda.synchronize()
                self.pool = torch.cuda.graph_pool_handle()  # the allocator may not have left the other one
                return Run(call, f"eager: {str(error).splitlines()[0]}")
        if any("Graph is empty" in str(warning.message) for warning in caught):
            raise RuntimeError(f"{name}: {_NO_KERNEL}")
        graph.replay()
        torch.cuda.synchronize()
        return Run(graph.replay, "graph", variant.calls)

    def _waits(self, call: Callable[[], object]) -> bool:
        """Return whether a call waits for the device, found before a capture fails on it."""
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.cuda.stream(self.stream):
                call()
        except RuntimeError as error:
            if "synchronizing" not in str(error):
                raise
            return True
        finally:
            torch.cuda.set_sync_debug_mode(before)
            torch.cuda.synchronize()
        return False

    def times(self, rounds: int) -> dict[str, dict[str, Timed]]:
        """Return milliseconds a call by part and variant. A backward pass without a run is the difference."""
        result = {}
        for part, runs in self.runs.items():
            replayed = any(run.how == "graph" for run in runs.values())
            result[part] = self._time(runs, max(rounds, _ROUNDS) if replayed else rounds)
        for name, reason in self.no_retain.items():
            both, forward = result[BOTH][name], result[FORWARD][name]
            low, high = both.p20 - forward.p80, both.p80 - forward.p20
            timed = Timed(both.median - forward.median, low, high, f"difference: {reason}")
            result.setdefault(BACKWARD, {})[name] = timed
        return result

    def _time(self, runs: dict[str, Run], rounds: int) -> dict[str, Timed]:
        events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {name: [] for name in runs}
        with torch.cuda.stream(self.stream):
            for _ in range(rounds):
                for name, run in runs.items():
                    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                    self.flush.zero_()
                    start.record()
                    run.replay()
                    end.record()
                    events[name].append((start, end))
            torch.cuda.synchronize()
        return {
            name: summary([start.elapsed_time(end) / run.calls for start, end in events[name]], run.how)
            for name, run in runs.items()
        }

    def facts(self) -> dict[str, dict[str, dict]]:
        """Return peak_bytes, launches and kernel_ms by part and variant, the last two None where the profiler saw
        nothing.
        """
        return self.found

    @staticmethod
    def copy_bandwidth() -> float:
        """Measure the bytes per second (read plus written) of a copy of 1 GiB, or of 8 times the L2 cache where that is
        more: by the driver or by a kernel, whichever is faster. On an H200 the kernel is, by half.
        """
        size = max(1 << 30, 8 * torch.cuda.get_device_properties().L2_cache_size) // 16 * 16
        source = torch.rand(size // 4, device="cuda")
        target = torch.empty_like(source)
        ways = {
            "driver": Variant(lambda: target.copy_(source)),
            "kernel": Variant(lambda: torch.neg(source, out=target)),
        }
        timed = GpuTimer(ways).times(_ROUNDS)[FORWARD]
        return 2 * size / (1e-3 * min(way.median for way in timed.values()))
