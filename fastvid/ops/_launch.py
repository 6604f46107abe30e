"""Launch options of the kernels: block sizes, warps and stages, by architecture and class of shapes.

Every Triton kernel has a few possible launches, which compute the same thing. The default is the first.
``launches.json`` holds those that ``python -m benchmarks.tune`` found to be faster than the default on a GPU;
everything else is launched with the default. Nothing is timed at run time: a launch is a pure function of the shape and
the architecture, the same in every process.
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
    """The launches a kernel can use for a class of shapes; ``shape`` is the class's name in the table."""

    kernel: str
    shape: str
    launches: tuple[Launch, ...]


def options(kernel: str, shape: str, launches: Iterable[Launch]) -> Options:
    """Collect the distinct launches of a kernel, the default first. For a small shape, several may be the same."""
    different: list[Launch] = []
    for launch in launches:
        if launch not in different:
            different.append(launch)
    return Options(kernel, shape, tuple(different))


def choose_launch(found: Options, device: torch.device) -> Launch:
    """Return the launch that the table has for the device's architecture, or else the default."""
    if _chooser is not None:
        return _chooser(found)
    architecture = architecture_of(device)
    rows = table().get(architecture, {}).get(found.kernel, {}) if architecture else {}
    return rows[found.shape]["launch"] if found.shape in rows else found.launches[0]


def architecture_of(device: torch.device) -> str | None:
    """Return a GPU's architecture, such as ``"sm_90"``, or None for any other device."""
    return _architecture(device.index) if device.type == "cuda" else None


@functools.cache
def _architecture(index: int | None) -> str:
    major, minor = torch.cuda.get_device_capability(index)
    return f"sm_{major}{minor}"


@functools.cache
def table() -> Table:
    """Return the package's table, which is read once."""
    return read(PATH)


def read(path: Path) -> Table:
    """Read a table of launches from a file.

    Raises:
        ValueError: the file is not a table of launches.
    """
    try:
        found: Table = json.loads(path.read_text())
        for kernels in found.values():
            for shapes in kernels.values():
                for row in shapes.values():
                    if not row["launch"] or not all(type(value) is int for value in row["launch"].values()):
                        raise ValueError(f"{row['launch']} is not a launch")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a launch table: {error}; write it with python -m benchmarks.tune") from error
    return found


_chooser: Callable[[Options], Launch] | None = None


@contextlib.contextmanager
def choosing(chooser: Callable[[Options], Launch]) -> Iterator[None]:
    """Choose every launch in the block with ``chooser`` instead of the table: for tuning and for tests."""
    global _chooser
    before, _chooser = _chooser, chooser
    try:
        yield
    finally:
        _chooser = before
