"""How kernels are launched: block sizes, warps and stages, by architecture and class of shapes.

Every Triton kernel has options: a few launches that compute the same thing, the default first. ``launches.json`` holds
those that ``python -m benchmarks.tune`` found to be faster than the default on a card, and everything else is launched
with the default. Nothing is timed at run time: a launch is a pure function of the shape and the architecture, the same
in every process.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

PATH = Path(__file__).with_name("launches.json")

Launch = dict[str, int]  # keyword arguments of a kernel: block sizes, num_warps, num_stages, maxnreg
Table = dict[str, dict[str, dict[str, dict[str, Any]]]]  # architecture -> kernel -> shape -> {"launch": ..., ...}


class Options(NamedTuple):
    """The launches that a kernel may have for a class of shapes; ``shape`` names the class in the table."""

    kernel: str
    shape: str
    launches: tuple[Launch, ...]


def options(kernel: str, shape: str, launches: Iterable[Launch]) -> Options:
    """Collect the launches of a kernel, the default first; those that are the same for a small shape are one."""
    different: list[Launch] = []
    for launch in launches:
        if launch not in different:
            different.append(launch)
    return Options(kernel, shape, tuple(different))


def choose_launch(found: Options, device: torch.device) -> Launch:
    """Return the launch that the table has for the device's architecture, or the default."""
    if _chooser is not None:
        return _chooser(found)
    architecture = architecture_of(device)
    rows = table().get(architecture, {}).get(found.kernel, {}) if architecture else {}
    return rows[found.shape]["launch"] if found.shape in rows else found.launches[0]


def architecture_of(device: torch.device) -> str | None:
    """Name a GPU's architecture, ``"sm_90"``; None for any other device."""
    return _architecture(device.index) if device.type == "cuda" else None


@functools.cache
def _architecture(index: int | None) -> str:
    major, minor = torch.cuda.get_device_capability(index)
    return f"sm_{major}{minor}"


@functools.cache
def table() -> Table:
    """Read the package's table, once."""
    return read(PATH)


def read(path: Path) -> Table:
    """Read a table of launches.

    Raises:
        ValueError: the file is no such table.
    """
    try:
        found: Table = json.loads(path.read_text())
        for kernels in found.values():
            for shapes in kernels.values():
                for row in shapes.values():
                    if not row["launch"] or not all(type(value) is int for value in row["launch"].values()):
                        raise ValueError(f"{row['launch']} is no launch")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no table of launches: {error}; write it with python -m benchmarks.tune") from error
    return found


_chooser: Callable[[Options], Launch] | None = None


@contextlib.contextmanager
def choosing(chooser: Callable[[Options], Launch]) -> Iterator[None]:
    """Have ``chooser`` choose every launch of the block in the table's place: for tuning and for tests."""
    global _chooser
    before, _chooser = _chooser, chooser
    try:
        yield
    finally:
        _chooser = before
