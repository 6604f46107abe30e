"""How benchmarks measure: both sides in one process, in turns, medians and ratios; absolute times are never compared.

Every benchmark first checks that the two sides compute the same thing, and fails when a ratio falls under its floor.
"""

import statistics
import time
from collections.abc import Callable

import pytest
import torch

# A guard should fail for what changed in the code and not for a busy neighbour: it must fall short this often in a row.
_ATTEMPTS = 5

_TABLE: list[tuple[str, str]] = []


def median_times(sides: dict[str, Callable[[], object]], rounds: int = 15, warmup: int = 3) -> dict[str, float]:
    """Seconds per call of each side: medians over rounds in which the sides take turns, so drift hits all alike."""
    for _ in range(warmup):
        for call in sides.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


@pytest.fixture(scope="session")
def copy_bandwidth() -> float:
    """Bytes per second (read plus written) of a large torch copy between warm buffers: what memory gives, measured."""
    source = torch.ones(64 << 20, dtype=torch.uint8)
    target = torch.empty_like(source)
    seconds = median_times({"copy": lambda: target.copy_(source)}, rounds=21)["copy"]
    return 2 * source.nbytes / seconds


@pytest.fixture
def record(benchmark, copy_bandwidth):
    """Stores what was measured with the benchmark, prints it at the end, and checks the floors.

    Call it with the name, the sides' functions (ours under the key ``fastvid``), the floor of each ratio, and the least
    bytes ours must move.
    """

    def measure(
        name: str, sides: dict[str, Callable[[], object]], *, floors: dict[str, float], least_bytes: int = 0, rounds=15
    ) -> dict[str, float]:
        for _ in range(_ATTEMPTS):
            seconds = median_times(sides, rounds)
            ours = seconds["fastvid"]
            ratios = {other: seconds[other] / ours for other in sides if other != "fastvid"}
            if all(ratios[other] >= floor for other, floor in floors.items()):
                break
        benchmark.pedantic(sides["fastvid"], rounds=5, warmup_rounds=1)
        info = {"ms": {side: round(1e3 * s, 3) for side, s in seconds.items()}, "times_faster_than": ratios}
        line = f"{1e3 * ours:8.2f} ms"
        if least_bytes:
            info["gb_per_s"] = least_bytes / ours / 1e9
            info["share_of_copy"] = least_bytes / ours / copy_bandwidth
            line += f"  {info['gb_per_s']:5.1f} GB/s = {100 * info['share_of_copy']:3.0f} % of copy"
        line += "  " + ", ".join(f"{ratio:.1f}x {other} (floor {floors[other]:g})" for other, ratio in ratios.items())
        benchmark.extra_info.update(info, torch=torch.__version__, threads=torch.get_num_threads())
        _TABLE.append((name, line))
        for other, floor in floors.items():
            assert ratios[other] >= floor, f"{name}: {ratios[other]:.2f}x {other}, the floor is {floor}x"
        return ratios

    return measure


def pytest_terminal_summary(terminalreporter):
    if _TABLE:
        terminalreporter.section(f"fastvid against the alternatives (torch {torch.__version__}, medians)")
        for name, line in _TABLE:
            terminalreporter.write_line(f"{name:34s}{line}")
