"""Stage "steps": whole training steps, against those published."""

import contextlib
import math
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch

from benchmarks.harness import devices, thresholds
from benchmarks.harness.gemm import gemm_rate
from benchmarks.harness.gpu_timing import GpuTimer
from benchmarks.harness.recorder import Recorder
from benchmarks.harness.timing import CALL, Call, CpuTimer
from tools.gpu.record import Task, stage
from tools.gpu.scale import Scale

if TYPE_CHECKING:
    from benchmarks.training.fvlm_sides import Make


def main(task: Task) -> None:
    """Measure every step of :data:`STEPS`; each keeps its rows as it goes."""
    device = devices.find(task.scale.device.kind)
    task.record.value("device", devices.describe(device))
    # No step has least bytes, which alone are compared with a copy.
    recorder = Recorder(device, thresholds.read(thresholds.PATH.read_text()), copy_bandwidth=1.0)
    with eager_unless_compiled(task.scale):
        for name, measure in STEPS.items():
            with task.record.part(name):
                measure(task, recorder)


def eager_unless_compiled(scale: Scale) -> contextlib.AbstractContextManager:
    """Return a context in which nothing is compiled, where the sizes say so."""
    return contextlib.nullcontext() if scale.compiled else torch.compiler.set_stance("force_eager")


# Variants of benchmarks.training.salt_sides, the names of their thresholds, and whose peak memory has one.
SALT = (
    ("recommended", "SALT step, recommended"),
    ("same", "SALT step, same mathematics"),
    ("subset, budget", "SALT step, careful"),
)


def salt(task: Task, recorder: Recorder) -> None:
    """Measure a SALT step as published, and fastvid's: time, peak memory, and how near to the GEMM rate it runs."""
    from benchmarks.training import salt_measure
    from benchmarks.training.salt_sides import SIZES, make_variant, random_clip, step
    from benchmarks.training.salt_step import check_same

    device, size = torch.device(task.scale.device.kind), SIZES[task.scale.salt]
    clip, rate = random_clip(size, device), gemm_rate(torch.device(task.scale.device.kind))
    published = make_variant("published", size, device)
    with task.record.part("same mathematics"):  # before a step, which changes the weights
        check_same(published, make_variant("same", size, device), clip)
    peaks = {"published": salt_measure.peak_bytes(published, clip)}
    published_work = salt_measure.flops(published, clip)
    other = Call(partial(step, published, clip), capture=False)
    for name, benchmark in SALT:
        with task.record.part(benchmark):
            variant = make_variant(name, size, device)
            peaks[name] = salt_measure.peak_bytes(variant, clip)
            if name == "recommended":
                share = peaks[name] / peaks["published"]
                task.record.rows += recorder.keep(f"{benchmark}, peak memory", {"memory of as published": share})
            ours = Call(partial(step, variant, clip), capture=False)
            rows = recorder.measure(benchmark, {"fastvid": ours, "as published": other}, rounds=task.scale.rounds)
            task.record.rows += rows
            ms = {which: rows[-1]["ms"][which]["median"] for which in ("fastvid", "as published")}
            for title, peak, work, which in (
                ("SALT step, as published", peaks["published"], published_work, "as published"),
                (benchmark, peaks[name], salt_measure.flops(variant, clip), "fastvid"),
            ):
                task.record.value(title, {
                    "clips/s": 1e3 * size.batch / ms[which], "peak GB": peak / 1e9, "GFLOP": work / 1e9,
                    "share of the GEMM rate": 1e3 * work / ms[which] / rate,
                })  # fmt: skip


def vjepa2(task: Task, recorder: Recorder) -> None:
    """Measure a step of V-JEPA 2's pooler on kept features, against one that runs the encoder."""
    from benchmarks.training.vjepa2_step import NAME, OTHER, Size, make_steps

    size = Size(**task.scale.vjepa2)
    on_kept, on_clips = make_steps(size, torch.device(task.scale.device.kind))
    variants = {"fastvid": Call(on_kept, capture=False), OTHER: Call(on_clips, capture=False)}
    rows = recorder.measure(NAME, variants, rounds=task.scale.rounds)
    task.record.rows += rows
    task.record.value(NAME, {"clips/s": size.batch / (1e-3 * rows[-1]["ms"]["fastvid"]["median"])})


CHOICES, STREAM = "fVLM multiple choice", "fVLM stream, frame 1000"


def fvlm(task: Task, recorder: Recorder) -> None:
    """Measure a foveated vision-language model: training steps against the published ones, and answers."""
    from benchmarks.training import fvlm_sides as sides

    device, size = torch.device(task.scale.device.kind), sides.SIZES[task.scale.fvlm]
    for name, make in sides.steps(size, device).items():
        with task.record.part(name):
            fvlm_step(task, recorder, name, make, size.clips)
    with task.record.part(CHOICES):
        scored = {which: Call(score, capture=False) for which, score in sides.choosing(size, device).items()}
        task.record.rows += recorder.measure(CHOICES, scored, rounds=min(3, task.scale.rounds))
    with task.record.part(STREAM):
        pairs = sides.seconds_of_frames(size, device, early=100, late=task.scale.stream, some=20, rounds=3)
        flat = statistics.median(first / last for first, last in pairs)
        task.record.rows += recorder.keep(STREAM, {"x frame 100": flat})
        task.record.value(STREAM, {"frames/s": 1 / statistics.median(last for _, last in pairs)})


def fvlm_step(task: Task, recorder: Recorder, name: str, make: "Make", clips: int) -> None:
    """Measure a step as published, fastvid's, and fastvid's with compiled parts: time and peak memory."""
    from benchmarks.training.fvlm_sides import COMPILED, JOINT_STEP, OURS, PUBLISHED, add_compiled, check_same

    variants = make()
    check_same(variants)
    with task.record.part(f"{name}, {COMPILED}"):
        add_compiled(variants, make)
    peaks = {which: side.peak_bytes() for which, side in variants.items()}
    calls = {which: Call(side.step, capture=False) for which, side in variants.items()}
    rows = recorder.measure(name, calls, rounds=min(3, task.scale.rounds))
    ms = {which: rows[-1]["ms"][which]["median"] for which in variants}
    for which, peak in peaks.items():
        title = name if which == OURS else f"{name}, {which}"
        task.record.value(title, {"clips/s": 1e3 * clips / ms[which], "peak GB": peak / 1e9})
    if name == JOINT_STEP:
        rows += recorder.keep(f"{name}, peak memory", {"memory of as published": peaks[OURS] / peaks[PUBLISHED]})
    if COMPILED in ms:
        rows += recorder.keep(f"{name}, {COMPILED}", {"x as published": ms[PUBLISHED] / ms[COMPILED]})
    task.record.rows += rows


def trajectory(task: Task, recorder: Recorder) -> None:
    """Measure a step of the trajectory classifier in full width, whose loss must be that of a CPU.

    Nothing is published to compare its time with, so that it has no target.
    """
    from benchmarks.training.trajectory_step import NAME, Step, check_same

    step = Step(torch.device(task.scale.device.kind), videos=task.scale.trajectory)
    check_same(step)
    timer = GpuTimer if recorder.device.kind == "cuda" else CpuTimer
    timed = timer({"fastvid": Call(step, capture=False)}).times(task.scale.rounds)[CALL]["fastvid"]
    task.record.value(NAME, {"clips/s": 1e3 * task.scale.trajectory / timed.median})


# A project's step is one line here.
STEPS: dict[str, Callable[[Task, Recorder], None]] = {
    "SALT": salt, "V-JEPA 2": vjepa2, "trajectory": trajectory, "fVLM": fvlm,
}  # fmt: skip


def salt_step_is_finite(name: str, scale: Scale) -> None:
    """Make one whole step of a variant of ``benchmarks.training.salt_sides``; raises where its loss is not finite."""
    from benchmarks.training.salt_sides import SIZES, forward, make_variant, random_clip

    device, size = torch.device(scale.device.kind), SIZES[scale.salt]
    with eager_unless_compiled(scale):
        variant = make_variant(name, size, device)
        loss = forward(variant, random_clip(size, device))
        loss.backward()
        variant.update()
    assert math.isfinite(loss.item()), f"the loss of the {name} step is {loss.item()}"


if __name__ == "__main__":
    sys.exit(stage(main))
