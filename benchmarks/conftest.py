"""Fixtures of the benchmarks: two variants are timed in turns in one process, and only their ratio is compared.

Every benchmark first checks that the variants compute the same thing, and fails when a number misses its threshold in
``thresholds.toml``. A session measures one device: the GPU if there is one, or what ``--device`` says.
"""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.harness import devices, thresholds
from benchmarks.harness.gpu_timing import GpuTimer
from benchmarks.harness.recorder import OURS, Recorder, label, line, missed
from benchmarks.harness.timing import CpuTimer, Variant
from fastvid.ops._dispatch import choose

_RECORDER = pytest.StashKey[Recorder]()


def pytest_addoption(parser):
    parser.addoption("--device", choices=("cpu", "cuda"), help="what to measure; default: the GPU if there is one")
    parser.addoption(
        "--rows",
        type=Path,
        help="file to which each result is appended as a line of JSON; thresholds then fail nothing",
    )
    parser.addoption(
        "--compile-only", action="store_true",
        help="check the variants and run them once, to fill the caches of compiled code; with --benchmark-disable",
    )  # fmt: skip


def _kind(config: pytest.Config) -> str:
    return config.getoption("--device") or ("cuda" if torch.cuda.is_available() else "cpu")


def pytest_generate_tests(metafunc):
    """Run a test with an argument ``workload`` once for each of its module's WORKLOADS[kind of device].

    With an argument ``users_workload`` it leaves out those that are only there to be larger than the cache.
    """
    for argument in {"workload", "users_workload"} & set(metafunc.fixturenames):
        workloads = metafunc.module.WORKLOADS[_kind(metafunc.config)]
        if argument == "users_workload":
            workloads = [workload for workload in workloads if workload.batch]
        metafunc.parametrize(argument, workloads, ids=str)


@pytest.fixture(scope="session")
def device(request) -> devices.Device:
    """Return the device to measure; ``device.kind`` is torch's name for it."""
    return devices.find(_kind(request.config))


@pytest.fixture(scope="session")
def _session(request, device) -> tuple[Recorder, dict]:
    facts = devices.describe(device)
    timer = GpuTimer if device.kind == "cuda" else CpuTimer
    bandwidth = 1.0 if request.config.getoption("--compile-only") else timer({}).copy_bandwidth()
    facts["copy_gb_per_s"] = bandwidth / 1e9
    recorder = Recorder(device, thresholds.read(thresholds.PATH.read_text()), bandwidth)
    request.config.stash[_RECORDER] = recorder
    return recorder, facts


@pytest.fixture
def kernel(device):
    """Return the backend that users get for an op: ``kernel("gather_tokens")``. The reference is not measured."""

    def backend(op: str) -> str:
        chosen = choose(
            op,
            torch.device("cuda", torch.cuda.current_device()) if device.kind == "cuda" else torch.device("cpu"),
            "auto",
        )
        assert chosen != "reference", f"{op} has no kernel on {device.name}"
        return chosen

    return backend


@pytest.fixture
def record(request, benchmark, device, _session):
    """Check, measure, keep the result with the benchmark, print it at the end, and check the thresholds.

        record("name", {"fastvid": variant, "another": variant}, least_bytes={"forward": 123}, tolerance=1e-4)

    Args:
        name: the benchmark's name in ``thresholds.toml``.
        variants: ours under the key ``fastvid``, the others with what they are; each a
            :class:`benchmarks.harness.timing.Variant`, whose passes are timed apart, or a plain function (or
            ``timing.Call``), timed whole.
        thresholds: for a benchmark without an entry in the file: other variant -> how many times faster ours must be.
        least_bytes: what ours must move, by part; a single number is for the last part.
        rounds: times that the variants take turns; at least 30 where CUDA graphs are replayed.
        gate: raises AssertionError where the variants do not compute the same; it runs before anything is timed.
        tolerance: of a gate for variants of type Variant: outputs and gradients are equal to this share of the largest
            value (0: to the bit). What is timed whole may be checked by the test itself, before it calls this.

    Returns:
        How many times faster ours is than each other variant, over the last part.
    """
    recorder, _ = _session
    keep = _keeper(request.config, benchmark, _session)

    def measure(name, variants, **arguments) -> dict[str, float]:
        if request.config.getoption("--compile-only"):
            recorder.warm(name, variants, **arguments)
            return {}
        ours = variants[OURS]
        forward = ours.forward if isinstance(ours, Variant) else ours
        rows = recorder.measure(name, variants, **arguments)
        if not benchmark.extra_info.get("rows"):  # the plugin's own clock runs once a test
            rounds = 1 if rows[-1]["ms"][OURS]["median"] > 100 else 5
            benchmark.pedantic(_waited(forward, device.kind), rounds=rounds)
        keep(rows)
        return {m.removeprefix("x "): v for m, v in rows[-1]["metrics"].items() if m.startswith("x ")}

    return measure


@pytest.fixture
def record_numbers(request, benchmark, _session):
    """Record numbers that are not times, by metric: ``record_numbers("name", {"memory of another": 0.5})``."""
    recorder, _ = _session
    keep = _keeper(request.config, benchmark, _session)
    return lambda name, metrics: keep(recorder.keep(name, metrics))


def _keeper(config: pytest.Config, benchmark, session: tuple[Recorder, dict]):
    """Return a function that stores rows with the benchmark and fails where one missed its threshold."""
    facts = session[1]

    def keep(rows: list[dict]) -> None:
        benchmark.extra_info.setdefault("rows", []).extend(rows)
        benchmark.extra_info["device"] = facts
        path = config.getoption("--rows")
        if path is not None:
            with path.open("a") as lines:
                lines.write(json.dumps({"device": facts, "rows": rows}) + "\n")
        elif missed(rows):
            pytest.fail("; ".join(missed(rows)), pytrace=False)

    return keep


def _waited(call, kind: str):
    def waiting():
        call()
        if kind == "cuda":
            torch.cuda.synchronize()

    return waiting


def pytest_terminal_summary(terminalreporter, config):
    recorder = config.stash.get(_RECORDER, None)
    if recorder is None or not recorder.rows:
        return
    copy = f"copy {recorder.copy_bandwidth / 1e9:.1f} GB/s"
    terminalreporter.section(f"fastvid on {recorder.device.name} (torch {torch.__version__}, medians, {copy})")
    width = 2 + max(len(label(row)) for row in recorder.rows)
    for row in recorder.rows:
        terminalreporter.write_line(f"{label(row):{width}s}{line(row)}")
        for variant, ms in row["timers_disagree"].items():
            timed = row["ms"][variant]
            terminalreporter.write_line(
                f"{'':{width}s}  {variant}: {timed['median']:.3g} ms between events ({timed['how']}), "
                f"{ms:.3g} ms in kernels"
            )
