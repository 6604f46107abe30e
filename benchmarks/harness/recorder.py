"""What a benchmark does with its sides: check that they agree, time them, compare with the floors, keep the result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import torch

from benchmarks.harness import floors as floor_table
from benchmarks.harness.devices import Device
from benchmarks.harness.floors import SHARES, Floor
from benchmarks.harness.gpu_timing import GpuTimer
from benchmarks.harness.timing import BOTH, CALL, Call, CpuTimer, Side, Timed, disagreement

OURS = "fastvid"
# A guard should fail for what changed in the code and not for a busy neighbour: it must fall short this often in a row.
# On a CPU every attempt adds its rounds to those before.
ATTEMPTS = 5
_TIMERS_AGREE = 0.25
_L2_TIMES = 8  # what a share of the bandwidth needs to be one of the memory's and not of the cache's


class Recorder:
    """Measures one benchmark after the other on one device; ``rows`` holds what the report shows."""

    def __init__(self, device: Device, floors: dict[str, dict[str, list[Floor]]], copy_bandwidth: float):
        self.device = device
        self.floors = floors
        self.copy_bandwidth = copy_bandwidth  # bytes per second
        self.rows: list[dict] = []

    def measure(
        self,
        name: str,
        sides: Mapping[str, Side | Callable[[], object]],
        *,
        floors: dict[str, float] | None = None,
        least_bytes: int | Mapping[str, int] = 0,
        rounds: int = 15,
        gate: Callable[[], object] | None = None,
        tolerance: float | None = None,
    ) -> list[dict]:
        """Return one row for each part: of the first attempt that meets the floors, or of the last.

        Arguments: see the ``record`` fixture. A red gate raises before anything is timed.
        """
        made = {side: call if isinstance(call, Side) else Call(call) for side, call in sides.items()}  # type: ignore[arg-type]
        parts = made[OURS].parts
        wanted = self._floors(name, made, floors)
        if any(side.parts != parts for side in made.values()):
            raise ValueError(f"{name}: the sides must have the same parts, {', '.join(parts)}")
        if not isinstance(least_bytes, Mapping):
            least_bytes = {parts[-1]: least_bytes}
        self._check_shares(name, wanted, least_bytes)
        if not isinstance(made[OURS], Call) and gate is None and tolerance is None:
            raise ValueError(f"{name}: say how the sides are checked against each other: gate= or tolerance=")
        if gate is not None:
            gate()
        if tolerance is not None:
            agree(name, made, tolerance)

        timer = GpuTimer(made) if self.device.kind == "cuda" else CpuTimer(made)
        facts = timer.facts()
        for _ in range(ATTEMPTS):
            times = timer.times(rounds)
            metrics = {
                part: self._metrics(times[part], least_bytes.get(part, 0), facts.get(part, {})) for part in parts
            }
            for floor in wanted:
                if floor.metric not in metrics[floor.part]:
                    raise RuntimeError(f"{name}: there is a floor of {floor}, which cannot be measured here")
            if all(floor.met(metrics[floor.part][floor.metric]) for floor in wanted):
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
        sides: Mapping[str, Side | Callable[[], object]],
        *,
        gate: Callable[[], object] | None = None,
        tolerance: float | None = None,
        **_: object,
    ) -> None:
        """Run what :meth:`measure` would compile without timing it, to fill the caches of compiled code."""
        made = {side: call if isinstance(call, Side) else Call(call) for side, call in sides.items()}  # type: ignore[arg-type]
        if gate is not None:
            gate()
        if tolerance is not None:
            agree(name, made, tolerance)
        for side in made.values():
            side.results() if side.inputs else side.forward()

    def keep(self, name: str, metrics: dict[str, float]) -> list[dict]:
        """Compare numbers that are not times, such as a share of memory, with the floors, and return them as a row.

        Raises:
            ValueError: there is a floor of a number that is not among them.
        """
        wanted = floor_table.lookup(self.floors, name, self.device.cls)
        for floor in wanted:
            if floor.part != CALL or floor.metric not in metrics:
                raise ValueError(f"{name}: there is a floor of {floor}, and its numbers are {', '.join(metrics)}")
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

    def _floors(self, name: str, sides: dict[str, Side], floors: dict[str, float] | None) -> list[Floor]:
        parts = sides[OURS].parts
        if floors is None:
            found = floor_table.lookup(self.floors, name, self.device.cls)
        elif name in self.floors:
            raise ValueError(
                f"{name}: its floors are in benchmarks/harness/floors.toml and in its file; keep one of them"
            )
        elif not floors:
            raise ValueError(f"{name}: floors= is empty, so it guards nothing")
        else:
            found = floor_table.in_code(floors, parts[-1])
        for floor in found:
            other = floor.metric.removeprefix("x ") if floor.metric.startswith("x ") else None
            if floor.part not in parts:
                raise ValueError(f"{name}: there is a floor of {floor}, and its parts are {', '.join(parts)}")
            if other is not None and (other not in sides or other == OURS):
                raise ValueError(f"{name}: there is a floor of {floor}, and its sides are {', '.join(sides)}")
        return found

    def _check_shares(self, name: str, wanted: Sequence[Floor], least_bytes: Mapping[str, int]) -> None:
        """Raise an error where a share of the bandwidth is demanded but the bytes are unknown or fit into the cache."""
        for floor in wanted:
            if floor.metric not in SHARES:
                continue
            moved = least_bytes.get(floor.part, 0)
            if not moved:
                raise ValueError(f"{name}: there is a floor of {floor}, and least_bytes does not say what it moves")
            if moved < _L2_TIMES * self.device.l2_bytes:
                raise ValueError(
                    f"{name}: a {floor.metric} needs {_L2_TIMES} times the L2 cache, and it moves {moved} bytes on a "
                    f"card with {self.device.l2_bytes}"
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
        wanted: Sequence[Floor],
    ) -> dict:
        return {
            "benchmark": name,
            "part": part,
            "least_bytes": least_bytes or None,
            "ms": {side: asdict(timed) for side, timed in times.items()},
            "metrics": metrics,
            "peak_bytes": {side: fact["peak_bytes"] for side, fact in facts.items()},
            "launches": {side: fact["launches"] for side, fact in facts.items()},
            "timers_disagree": {
                side: fact["kernel_ms"]
                for side, fact in facts.items()
                if fact["kernel_ms"] and disagreement(fact["kernel_ms"], times[side].median) > _TIMERS_AGREE
            },
            "floors": _compared([floor for floor in wanted if floor.part == part], metrics),
        }


def _compared(wanted: Sequence[Floor], metrics: dict[str, float]) -> list[dict]:
    """Return the floors as a row holds them, each with whether it was met."""
    return [
        {
            "metric": floor.metric,
            "value": floor.value,
            "sign": floor.sign,
            "source": floor.source,
            "met": floor.met(metrics[floor.metric]),
        }
        for floor in wanted
    ]


def missed(rows: Sequence[dict]) -> list[str]:
    """Return a sentence for each floor that was not met."""
    return [
        f"{row['benchmark']}, {row['part']}: {floor['metric']} is {row['metrics'][floor['metric']]:.3g}, "
        f"the {_bound(floor)} is {floor['value']:g}"
        for row in rows
        for floor in row["floors"]
        if not floor["met"]
    ]


def agree(name: str, sides: dict[str, Side], tolerance: float) -> None:
    """Check that every side's output and gradients are those of the first other side, to ``tolerance`` of the
    largest value.
    """
    others = [side for side in sides if side != OURS]
    expected = sides[others[0]].results()
    for side in sides:
        if side == others[0]:
            continue
        got = sides[side].results()
        for i, (one, other) in enumerate(zip(got, expected, strict=True)):
            what = f"gradient {i}" if i else "output"
            assert one.shape == other.shape, f"{name}: {what} of {side} is {one.shape}, not {other.shape}"
            allowed = tolerance * other.abs().max().item()
            error = (one.float() - other.float()).abs().max().item() if allowed else float(not torch.equal(one, other))
            assert error <= allowed, f"{name}: {what} of {side} is off by {error:.3g} from {others[0]}"


def _bound(floor: dict) -> str:
    return "floor" if floor["sign"] > 0 else "limit"


def line(row: dict) -> str:
    """Format a row as one line of the terminal's table."""
    metrics, ours = row["metrics"], row["ms"].get(OURS)
    text = f"{'':11s}"
    if ours is not None:
        short = ours["median"] < 0.1
        text = f"{1e3 * ours['median']:8.1f} us" if short else f"{ours['median']:8.2f} ms"
    if "GB/s" in metrics:
        text += f"  {metrics['GB/s']:6.1f} GB/s = {100 * metrics['share of copy']:3.0f} % of copy"
    bounds = {floor["metric"]: floor for floor in row["floors"]}

    def note(metric: str) -> str:
        floor = bounds.get(metric)
        return "" if floor is None else f" ({_bound(floor)} {floor['value']:g})"

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
