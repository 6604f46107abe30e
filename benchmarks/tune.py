"""Finds the fastest launch of each Triton kernel on this GPU, for fastvid/ops/launches.json.

    python -m benchmarks.tune --out fastvid/ops/launches.json --seconds 300

A launch replaces the default when it gives the same result and is faster by more than both spread, twice in a row. Rows
of other architectures in the file, and of kernels that were not reached in time, stay as they are.
``--device cpu`` rehearses all of it in Triton's interpreter, on tiny sizes; its times mean nothing.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from triton.runtime.errors import OutOfResources

from benchmarks.harness import devices
from benchmarks.harness.gpu_timing import GpuTimer
from benchmarks.harness.launch_workloads import KERNELS, WORKLOADS, Place
from benchmarks.harness.timing import CALL, Call, CpuTimer, Timed
from fastvid.files import write_whole
from fastvid.ops import _launch
from fastvid.ops._dispatch import INTERPRETED, why_no_triton
from fastvid.ops._launch import Launch, Options, Table, architecture_of, read

MARGIN = 0.03  # a launch must be this much faster than the default, besides what both spread
INTERPRETER = "interpreter"  # the architecture of --device cpu
_ROUNDS = {"cuda": 50, "cpu": 1}


@dataclass(frozen=True)
class Found:
    """The result for one kernel at one class of shapes; the times are of the whole call."""

    options: Options
    best: Launch
    time: Timed  # with the best launch
    default: Timed  # with the default
    tried: int
    wrong: tuple[str, ...] = ()  # launches whose results are not the default's

    @property
    def kept(self) -> bool:
        """Return whether the default stays."""
        return self.best == self.options.launches[0]


def launches_of(call: Callable[[], object]) -> list[Options]:
    """Call it once with the default launches; return the options of every kernel that it launched."""
    seen: list[Options] = []

    def note(options: Options) -> Launch:
        seen.append(options)
        return options.launches[0]

    with _launch.choosing(note):
        call()
    return seen


def launched_with(call: Callable[[], Any], kernel: str, launch: Launch) -> Callable[[], Any]:
    """Wrap the call so that one kernel has the given launch, and the others have their defaults."""

    def chosen(options: Options) -> Launch:
        return launch if options.kernel == kernel else options.launches[0]

    def run():
        with _launch.choosing(chosen):
            return call()

    return run


def results(call: Callable[[], Any]) -> tuple[torch.Tensor, ...]:
    """Return the call's results, in memory that was filled with NaN or the largest integer, so that unwritten values
    show.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # torch.empty fills what it allocates
    try:
        found = call()
    finally:
        torch.use_deterministic_algorithms(before)
    return found if isinstance(found, tuple) else (found,)


def same(found: Iterable[torch.Tensor], expected: Iterable[torch.Tensor]) -> bool:
    """Return whether results are equal to two units in the last place of the largest value, float32 sums to 1e-4 of
    it."""
    for one, other in zip(found, expected, strict=True):
        if not one.is_floating_point() or not one.numel():
            if not torch.equal(one, other):
                return False
            continue
        allowed = max(2 * torch.finfo(other.dtype).eps, 1e-4) * other.abs().max().float()
        if not (one.float() - other.float()).abs().max() <= allowed:  # NaN is not
            return False
    return True


def faster(one: Timed, default: Timed) -> bool:
    """Return whether a launch is faster than the default by more than both spread, and by the margin."""
    return one.p80 < default.p20 and one.median < (1 - MARGIN) * default.median


def tune(call: Callable[[], Any], options: Options, device: str) -> Found:
    """Check and time all launches of one kernel of a call, in turns, twice."""
    expected = results(launched_with(call, options.kernel, options.launches[0]))
    variants: dict[str, Call] = {}
    wrong = []
    for number, launch in enumerate(options.launches):
        run = launched_with(call, options.kernel, launch)
        try:
            right = number == 0 or same(results(run), expected)
        except OutOfResources:  # this card has less shared memory than those it was compiled for
            continue
        if right:
            variants[str(number)] = Call(run)
        else:
            wrong.append(f"{options.kernel} with {described(launch)} at {options.shape}")
    timer = GpuTimer(variants) if device == "cuda" else CpuTimer(variants, warm=True)  # all were run above
    first, second = (timer.times(_ROUNDS[device])[CALL] for _ in range(2))
    beat = [name for name in variants if all(faster(times[name], times["0"]) for times in (first, second))]
    best = min(beat, key=lambda name: second[name].median, default="0")
    return Found(options, options.launches[int(best)], second[best], second["0"], len(variants), tuple(wrong))


def tune_all(device: str, seconds: float, kernels: Collection[str] = KERNELS) -> Iterator[tuple[str, Found]]:
    """Tune kernels, most of a step's time first; yield each with the name of its size.

    None is started that would take longer than ``seconds`` leave, if it takes as long as the slowest before it.
    """
    started, slowest = time.monotonic(), 0.0
    for workload in WORKLOADS:
        wanted = [kernel for kernel in workload.kernels if kernel in kernels]
        if not wanted:
            continue
        begun = time.monotonic()
        if begun - started + slowest >= seconds:
            print(f"{seconds:g} seconds are over: nothing is tuned from {wanted[0]}, {workload.size} on")
            return
        torch.manual_seed(0)
        call = workload.make(Place(device, tiny=device == "cpu"))
        for options in launches_of(call):
            if options.kernel in wanted:
                yield workload.size, tune(call, options, device)
        slowest = max(slowest, time.monotonic() - begun)


def merge(table: Table, architecture: str, found: Iterable[Found], about: dict[str, Any]) -> Table:
    """Return the table with one architecture's rows replaced where they were tuned anew; a kept default has no row."""
    kernels = {kernel: dict(shapes) for kernel, shapes in table.get(architecture, {}).items()}
    for one in found:
        shapes = kernels.setdefault(one.options.kernel, {})
        shapes.pop(one.options.shape, None)
        if not one.kept:
            microseconds = {"us": round(1e3 * one.time.median, 2), "default_us": round(1e3 * one.default.median, 2)}
            shapes[one.options.shape] = {"launch": one.best, **microseconds, **about}
    merged = {**table, architecture: {kernel: shapes for kernel, shapes in kernels.items() if shapes}}
    return {name: rows for name, rows in merged.items() if rows}


def text(table: Table) -> str:
    """Format the table as a file, with a line for each class of shapes, so that diffs are small."""
    blocks = []
    for architecture, kernels in sorted(table.items()):
        lines = []
        for kernel, shapes in sorted(kernels.items()):
            rows = [f"   {json.dumps(shape)}: {json.dumps(row)}" for shape, row in sorted(shapes.items())]
            lines.append(f"  {json.dumps(kernel)}: {{\n" + ",\n".join(rows) + "\n  }")
        blocks.append(f" {json.dumps(architecture)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(blocks) + "\n}\n" if blocks else "{}\n"


def described(launch: Launch) -> str:
    """Format a launch in a few words: ``ROWS 4, BLOCK 1024, warps 4``."""
    return ", ".join(f"{name.removeprefix('num_')} {value}" for name, value in launch.items())


def line(size: str, one: Found) -> str:
    """Format the result of one kernel as a line of the printed table."""
    kernel = f"{one.options.kernel.removesuffix('_kernel')}, {size}"
    result = "kept" if one.kept else f"{1e3 * one.time.median:.1f} us with {described(one.best)}"
    return (
        f"{kernel:44s} {one.tried} of {len(one.options.launches)}, default {1e3 * one.default.median:9.1f} us: {result}"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="table of launches that the winners are merged into")
    parser.add_argument("--seconds", type=float, default=300, help="no kernel is started later; default 300")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: in the interpreter")
    parser.add_argument("--kernels", help="some only, separated by commas; default: all")
    options = parser.parse_args(arguments)
    kernels = options.kernels.split(",") if options.kernels else KERNELS
    if unknown := set(kernels) - set(KERNELS):
        parser.error(f"--kernels: {', '.join(sorted(unknown))} is none of {', '.join(KERNELS)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; --device cpu rehearses the tuning")
    if options.device == "cuda" and INTERPRETED:
        parser.error("TRITON_INTERPRET=1 is set: nothing would be compiled")
    if options.device == "cpu" and not INTERPRETED:  # Triton looks at this when it is imported: start anew
        again = [sys.executable, "-m", "benchmarks.tune", *(sys.argv[1:] if arguments is None else arguments)]
        os.execve(sys.executable, again, {**os.environ, "TRITON_INTERPRET": "1"})
    if options.device == "cpu" and (reason := why_no_triton("cpu", None)):
        parser.error(reason)
    table = read(options.out) if options.out.exists() else {}
    architecture = architecture_of(torch.device(options.device)) or INTERPRETER
    facts = devices.describe(devices.find(options.device))
    about = {"card": facts["name"], **{name: facts[name] for name in ("date", "torch", "triton", "driver")}}
    print(f"{about['card']}, torch {about['torch']}, triton {about['triton']}")
    wrong: list[str] = []
    replaced = tuned = 0
    for size, one in tune_all(options.device, options.seconds, kernels):
        print(line(size, one), flush=True)
        wrong += one.wrong
        tuned, replaced = tuned + 1, replaced + (not one.kept)
        table = merge(table, architecture, [one], about)
        write_whole(options.out, text(table).encode())  # what is found so far, whatever comes
    print(f"{replaced} of {tuned} launches on {architecture} replace the default, in {options.out}")
    for launch in wrong:
        print(f"WRONG RESULTS: {launch}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
