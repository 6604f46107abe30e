"""The treatment of a benchmark's variants: check that they agree, time them, compare with thresholds, keep results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import torch

from benchmarks.harness import thresholds as threshold_table
from benchmarks.harness.devices import Device
from benchmarks.harness.gpu_timing import GpuTimer
from benchmarks.harness.thresholds import SHARES, Threshold
from benchmarks.harness.timing import BOTH, CALL, Call, CpuTimer, Timed, Variant, disagreement

OURS = "fastvid"
# A guard should fail for what changed in the code and not for a busy neighbour: it must fall short this often in a row.
# On a CPU every attempt adds its rounds to those before.
ATTEMPTS = 5
_TIMERS_AGREE = 0.25
_L2_TIMES = 8  # what a share of the bandwidth needs to be one of the memory's and not of the cache's


class Recorder:
    """Measures one benchmark after the other on one device; ``rows`` holds what the report shows."""

    def __init__(self, device: Device, thresholds: dict[str, dict[str, list[Threshold]]], copy_bandwidth: float):
        self.device = device
        self.thresholds = thresholds
        self.copy_bandwidth = copy_bandwidth  # bytes per second
        self.rows: list[dict] = []

    def measure(
        self,
        name: str,
        variants: Mapping[str, Variant | Callable[[], object]],
        *,
        thresholds: dict[str, float] | None = None,
        least_bytes: int | Mapping[str, int] = 0,
        rounds: int = 15,
        gate: Callable[[], object] | None = None,
        tolerance: float | None = None,
    ) -> list[dict]:
        """Return one row for each part: of the first attempt that meets the thresholds, or of the last.

        Arguments: see the ``record`` fixture. A red gate raises before anything is timed.
        """
        made = {variant: call if isinstance(call, Variant) else Call(call) for variant, call in variants.items()}  # type: ignore[arg-type]
        parts = made[OURS].parts
        wanted = self._thresholds(name, made, thresholds)
        if any(variant.parts != parts for variant in made.values()):
            raise ValueError(f"{name}: the variants must have the same parts, {', '.join(parts)}")
        if not isinstance(least_bytes, Mapping):
            least_bytes = {parts[-1]: least_bytes}
        self._check_shares(name, wanted, least_bytes)
        if not isinstance(made[OURS], Call) and gate is None and tolerance is None:
            raise ValueError(f"{name}: say how the variants are checked against each other: gate= or tolerance=")
        if gate is not None:
            gate()
        if tolerance is not None:
            agree(name, made, tolerance)

        checked = gate is not None or tolerance is not None  # and so has been run
        timer = GpuTimer(made) if self.device.kind == "cuda" else CpuTimer(made, warm=checked)
        facts = timer.facts()
        for _ in range(ATTEMPTS):
            times = timer.times(rounds)
            metrics = {
                part: self._metrics(times[part], least_bytes.get(part, 0), facts.get(part, {})) for part in parts
            }
            for threshold in wanted:
                if threshold.metric not in metrics[threshold.part]:
                    raise RuntimeError(f"{name}: there is a threshold of {threshold}, which cannot be measured here")
            if all(threshold.met(metrics[threshold.part][threshold.metric]) for threshold in wanted):
                break
        new = [
            self._row(name, part, times[part], least_bytes.get(part, 0), metrics[part], facts.get(part, {}), wanted)
            for part in parts
        ]
        self.rows += new
        return new

    def warm(
        self,
        name: str,
        variants: Mapping[str, Variant | Callable[[], object]],
        *,
        gate: Callable[[], object] | None = None,
        tolerance: float | None = None,
        **_: object,
    ) -> None:
        """Run what :meth:`measure` would compile without timing it, to fill the caches of compiled code."""
        made = {variant: call if isinstance(call, Variant) else Call(call) for variant, call in variants.items()}  # type: ignore[arg-type]
        if gate is not None:
            gate()
        if tolerance is not None:
            agree(name, made, tolerance)
        for variant in made.values():
            variant.results() if variant.inputs else variant.forward()

    def keep(self, name: str, metrics: dict[str, float]) -> list[dict]:
        """Compare numbers that are not times, such as a share of memory, with the thresholds, and return them as a row.

        Raises:
            ValueError: there is a threshold of a number that is not among them.
        """
        wanted = threshold_table.lookup(self.thresholds, name, self.device.cls)
        for threshold in wanted:
            if threshold.part != CALL or threshold.metric not in metrics:
                raise ValueError(
                    f"{name}: there is a threshold of {threshold}, and its numbers are {', '.join(metrics)}"
                )
        row = {
            "benchmark": name,
            "part": CALL,
            "least_bytes": None,
            "ms": {},
            "metrics": metrics,
            "peak_bytes": {},
            "launches": {},
            "timers_disagree": {},
            "floors": _compared(wanted, metrics),
        }
        self.rows.append(row)
        return [row]

    def _thresholds(
        self, name: str, variants: dict[str, Variant], thresholds: dict[str, float] | None
    ) -> list[Threshold]:
        parts = variants[OURS].parts
        if thresholds is None:
            found = threshold_table.lookup(self.thresholds, name, self.device.cls)
        elif name in self.thresholds:
            raise ValueError(
                f"{name}: its thresholds are in benchmarks/harness/thresholds.toml and in its file; keep one of them"
            )
        elif not thresholds:
            raise ValueError(f"{name}: thresholds= is empty, so it guards nothing")
        else:
            found = threshold_table.in_code(thresholds, parts[-1])
        for threshold in found:
            other = threshold.metric.removeprefix("x ") if threshold.metric.startswith("x ") else None
            if threshold.part not in parts:
                raise ValueError(f"{name}: there is a threshold of {threshold}, and its parts are {', '.join(parts)}")
            if other is not None and (other not in variants or other == OURS):
                raise ValueError(
                    f"{name}: there is a threshold of {threshold}, and its variants are {', '.join(variants)}"
                )
        return found

    def _check_shares(self, name: str, wanted: Sequence[Threshold], least_bytes: Mapping[str, int]) -> None:
        """Raise an error where a share of the bandwidth is demanded but the bytes are unknown or fit into the cache."""
        for threshold in wanted:
            if threshold.metric not in SHARES:
                continue
            moved = least_bytes.get(threshold.part, 0)
            if not moved:
                raise ValueError(
                    f"{name}: there is a threshold of {threshold}, and least_bytes does not say what it moves"
                )
            if moved < _L2_TIMES * self.device.l2_bytes:
                raise ValueError(
                    f"{name}: a {threshold.metric} needs {_L2_TIMES} times the L2 cache, and it moves {moved} bytes on "
                    f"a card with {self.device.l2_bytes}"
                )

    def _metrics(self, times: dict[str, Timed], least_bytes: int, facts: dict[str, dict]) -> dict[str, float]:
        ours = times[OURS].median
        best = times[OURS].compared
        found = {f"x {other}": timed.compared / best for other, timed in times.items() if other != OURS}
        found["us"] = 1e3 * ours
        if least_bytes:
            rate = least_bytes / (1e-3 * ours)  # bytes per second
            found["GB/s"] = rate / 1e9
            found["share of copy"] = rate / self.copy_bandwidth
            if self.device.datasheet_gb_per_s:
                found["share of datasheet"] = rate / 1e9 / self.device.datasheet_gb_per_s
        launches = facts.get(OURS, {}).get("launches")
        if launches is not None:
            found["launches"] = launches
        return found

    def _row(
        self,
        name: str,
        part: str,
        times: dict[str, Timed],
        least_bytes: int,
        metrics: dict[str, float],
        facts: dict[str, dict],
        wanted: Sequence[Threshold],
    ) -> dict:
        return {
            "benchmark": name,
            "part": part,
            "least_bytes": least_bytes or None,
            "ms": {variant: asdict(timed) for variant, timed in times.items()},
            "metrics": metrics,
            "peak_bytes": {variant: fact["peak_bytes"] for variant, fact in facts.items()},
            "launches": {variant: fact["launches"] for variant, fact in facts.items()},
            "timers_disagree": {
                variant: fact["kernel_ms"]
                for variant, fact in facts.items()
                if fact["kernel_ms"] and disagreement(fact["kernel_ms"], times[variant].median) > _TIMERS_AGREE
            },
            "floors": _compared([threshold for threshold in wanted if threshold.part == part], metrics),
        }


def _compared(wanted: Sequence[Threshold], metrics: dict[str, float]) -> list[dict]:
    """Return the thresholds as a row holds them, each with whether it was met."""
    return [
        {
            "metric": threshold.metric,
            "value": threshold.value,
            "sign": threshold.sign,
            "source": threshold.source,
            "met": threshold.met(metrics[threshold.metric]),
        }
        for threshold in wanted
    ]


def missed(rows: Sequence[dict]) -> list[str]:
    """Return a sentence for each threshold that was not met."""
    return [
        f"{row['benchmark']}, {row['part']}: {threshold['metric']} is {row['metrics'][threshold['metric']]:.3g}, "
        f"the threshold is {threshold['value']:g}"
        for row in rows
        for threshold in row["floors"]
        if not threshold["met"]
    ]


def agree(name: str, variants: dict[str, Variant], tolerance: float) -> None:
    """Check that every variant's output and gradients are those of the first other variant, to ``tolerance`` of the
    largest value.
    """
    others = [variant for variant in variants if variant != OURS]
    expected = variants[others[0]].results()
    for variant in variants:
        if variant == others[0]:
            continue
        got = variants[variant].results()
        for i, (one, other) in enumerate(zip(got, expected, strict=True)):
            what = f"gradient {i}" if i else "output"
            assert one.shape == other.shape, f"{name}: {what} of {variant} is {one.shape}, not {other.shape}"
            allowed = tolerance * other.abs().max().item()
            error = (one.float() - other.float()).abs().max().item() if allowed else float(not torch.equal(one, other))
            assert error <= allowed, f"{name}: {what} of {variant} is off by {error:.3g} from {others[0]}"


def _least_or_most(threshold: dict) -> str:
    return "at least" if threshold["sign"] > 0 else "at most"


def line(row: dict) -> str:
    """Format a row as one line of the terminal's table."""
    metrics, ours = row["metrics"], row["ms"].get(OURS)
    text = f"{'':11s}"
    if ours is not None:
        short = ours["median"] < 0.1
        text = f"{1e3 * ours['median']:8.1f} us" if short else f"{ours['median']:8.2f} ms"
    if "GB/s" in metrics:
        text += f"  {metrics['GB/s']:6.1f} GB/s = {100 * metrics['share of copy']:3.0f} % of copy"
    bounds = {threshold["metric"]: threshold for threshold in row["floors"]}

    def note(metric: str) -> str:
        threshold = bounds.get(metric)
        return "" if threshold is None else f" ({_least_or_most(threshold)} {threshold['value']:g})"

    ratios = [
        f"{value:.1f}x {metric.removeprefix('x ')}{note(metric)}"
        for metric, value in metrics.items()
        if metric.startswith("x ")
    ]
    others = [f"{metric} {metrics[metric]:.3g}{note(metric)}" for metric in bounds if not metric.startswith("x ")]
    return text + "  " + ", ".join([*ratios, *others])


def label(row: dict) -> str:
    """Return the name and part of a row. The part is left out of a benchmark with only one."""
    part = {BOTH: "fwd + bwd", "call": ""}.get(row["part"], row["part"])
    return f"{row['benchmark']}, {part}" if part else row["benchmark"]
