"""Thresholds: which numbers a benchmark must reach on which class of device, and where each number is from."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.devices import CLASSES
from benchmarks.harness.timing import BACKWARD, BOTH, CALL, FORWARD

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # which pytest brings along

PATH = Path(__file__).with_name("thresholds.toml")
PARTS = (FORWARD, BACKWARD, BOTH, CALL)
SHARES = ("share of copy", "share of datasheet")
METRICS = (*SHARES, "us", "launches")  # and "x OTHER SIDE", "memory of OTHER SIDE"
_OF_A_SIDE = ("x ", "memory of ")  # how many times faster, and peak memory as a share of the other's
_SOURCE = re.compile(r"(measured|predicted|target): \S")


@dataclass(frozen=True)
class Threshold:
    """``part: metric`` of a benchmark must be at least (``sign`` 1) or at most (-1) ``value``."""

    part: str
    metric: str
    value: float
    sign: int
    source: str

    def met(self, got: float) -> bool:
        return got >= self.value if self.sign > 0 else got <= self.value

    def __str__(self) -> str:
        return f"{self.part}: {self.metric}"


def entry(where: str, key: str, fields: dict) -> Threshold:
    """Return one threshold from its line in the file; ``where`` names it in errors."""
    part, separator, metric = key.partition(": ")
    if not separator or part not in PARTS:
        raise ValueError(f"{where}: {key!r} must start with one of {', '.join(PARTS)} and a colon")
    if metric not in METRICS and not metric.startswith(_OF_A_SIDE):
        raise ValueError(f"{where}: {metric!r} is none of {', '.join(METRICS)}, x OTHER SIDE, memory of OTHER SIDE")
    bounds = fields.keys() & {"at_least", "at_most"}
    if len(bounds) != 1 or fields.keys() - bounds != {"source"}:
        raise ValueError(f"{where}: {key!r} needs at_least or at_most, and source, and has {', '.join(sorted(fields))}")
    (bound,) = bounds
    value, source = fields[bound], fields["source"]
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{where}: {bound} of {key!r} must be a positive number, got {value!r}")
    if not isinstance(source, str) or not _SOURCE.match(source):
        raise ValueError(f"{where}: source of {key!r} must start with measured:, predicted: or target:, got {source!r}")
    return Threshold(part, metric, float(value), 1 if bound == "at_least" else -1, source)


def read(text: str) -> dict[str, dict[str, list[Threshold]]]:
    """Parse the text of ``thresholds.toml`` to a map from benchmark to device class to thresholds.

    Raises:
        ValueError: a class, part, metric or field that is not known, a number or source that is not one.
    """
    found: dict[str, dict[str, list[Threshold]]] = {}
    for name, classes in tomllib.loads(text).items():
        for cls, entries in classes.items():
            if cls not in CLASSES:
                raise ValueError(f"thresholds of {name!r}: {cls!r} is none of {', '.join(CLASSES)}")
            where = f"thresholds of {name!r} on {cls}"
            found.setdefault(name, {})[cls] = [entry(where, key, fields) for key, fields in entries.items()]
    return found


def lookup(thresholds: dict[str, dict[str, list[Threshold]]], name: str, cls: str) -> list[Threshold]:
    """Return the thresholds of a benchmark on a class of device: those of ``gpu``, each replaced by the class's own
    if it has one.

    Raises:
        KeyError: there are none: a benchmark that guards nothing is a mistake.
    """
    classes = thresholds.get(name, {})
    merged = {str(threshold): threshold for threshold in classes.get("gpu", []) if cls != "cpu"}
    merged.update({str(threshold): threshold for threshold in classes.get(cls, [])})
    if not merged:
        raise KeyError(
            f"benchmarks/harness/thresholds.toml has no threshold of {name!r} on {cls}: add one, with its source"
        )
    return list(merged.values())


def in_code(ratios: dict[str, float], part: str) -> list[Threshold]:
    """Return the thresholds that a benchmark's file sets itself: other variant to the speedup that ours must have."""
    return [
        entry(
            "thresholds=", f"{part}: x {other}", {"at_least": ratio, "source": "target: given in the benchmark's file"}
        )
        for other, ratio in ratios.items()
    ]
