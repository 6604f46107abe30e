"""Benchmark of a loss on visible tokens (--loss.context) and targets of several layers (--teacher.layers).

python -m benchmarks.training.salt_targets learn --seeds 0 1 2 --out targets.json
python -m benchmarks.training.salt_targets table --out targets.json
python -m benchmarks.training.salt_targets cost --out cost.json

``learn`` trains one pixel teacher a seed, caches the latents of its last and of all of its blocks, trains a student
each way on them and probes it. Results are written after every student, and those that are there are not made again;
``table`` prints them as Markdown, with the mean differences to the plain loss over the seeds that have both.
``cost`` counts the operations of a step of a ViT-B, and measures the processor's time for a small one.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from fastvid.cache.__main__ import main as make_cache
from fastvid.data import Batch, EvaluationDraws, Latents, Quarantine, eval_batches, open_source
from fastvid.data.demo.files import cached_demo
from fastvid.data.demo.positions import demo_positions
from fastvid.eval.features import ProbeEntry
from fastvid.eval.position import position_probe
from fastvid.eval.suite import ProbeData, run_probes
from fastvid.files import write_whole
from fastvid.models import EncoderTeacher, VideoViT, load_encoder
from fastvid.models.teachers import with_layers
from fastvid.projects.salt.config import SaltConfig
from fastvid.projects.salt.loss import StageLoss
from fastvid.projects.salt.masks import MaskSampler
from fastvid.projects.salt.presets import PRESETS, demo, vit_base
from fastvid.projects.salt.recipe import untrained_student, with_predictor
from fastvid.projects.salt.targets import TeacherTargets
from fastvid.projects.train import train
from fastvid.train.data import view_spec
from fastvid.train.distributed import World
from fastvid.train.optim import OptimConfig

LAMBDA = 0.5
CLASSIFIERS = ("knn", "linear", "attentive")
SIDES = {"plain": (0.0, False), "context": (LAMBDA, False), "deep": (0.0, True), "context and deep": (LAMBDA, True)}


def settings(
    preset: str, seed: int, folder: Path, teacher_steps: int | None = None, steps: int | None = None
) -> SaltConfig:
    """Return a preset on one thread, without probes of its own. Its videos have as many frames as a clip, so that the
    position at every time slot is known.

    Args:
        preset: demo or proof.
        seed: of the run.
        folder: of the run.
        teacher_steps: the teacher's; default: the preset's.
        steps: the student's; default: the preset's.
    """
    base = PRESETS[preset]()
    return replace(
        base,
        demo=replace(base.demo, spec=replace(base.demo.spec, frames=base.data.frames)),
        teacher=replace(base.teacher, optim=_lasting(base.teacher.optim, teacher_steps)),
        optim=_lasting(base.optim, steps),
        health=replace(base.health, every=0),
        probe=replace(base.probe, enabled=False),
        run=replace(base.run, seed=seed, threads=1, dir=str(folder)),
    )


def _lasting(optim: OptimConfig, steps: int | None) -> OptimConfig:
    return optim if steps is None else replace(optim, steps=steps)


def student(config: SaltConfig, context: float, layers: tuple[int, ...], latents: Path) -> SaltConfig:
    """Return the configuration of a student that is taught by a cache."""
    return replace(
        config,
        teacher=replace(config.teacher, layers=layers),
        loss=replace(config.loss, context=context),
        latents=str(latents),
    )


def learn(preset: str, seeds: list[int], teacher_steps: int | None, steps: int | None, work: Path, out: Path) -> None:
    """Train and probe every side for every seed; what ``out`` has is kept."""
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    of_all = settings(preset, 0, work, teacher_steps, steps)
    taught = {"teacher_steps": of_all.teacher.optim.steps, "steps": of_all.optim.steps}
    results["settings"] = {"preset": preset, **taught, "lambda": LAMBDA}
    results.setdefault("rows", [])

    def add(seed: int, side: str, encoder: VideoViT, config: SaltConfig) -> None:
        results["rows"].append({"seed": seed, "side": side, **probe(encoder, config)})
        write_whole(out, json.dumps(results, indent=1).encode() + b"\n")
        print(json.dumps(results["rows"][-1]), flush=True)

    for seed in seeds:
        known = {row["side"] for row in results["rows"] if row["seed"] == seed}
        config = settings(preset, seed, work / f"teacher-{seed}", teacher_steps, 0)
        if not (work / f"teacher-{seed}" / "teacher" / "encoder.json").exists():
            train("salt", config)
        teacher = load_encoder(work / f"teacher-{seed}" / "teacher")
        every = tuple(range(1, len(teacher.blocks) + 1))
        if "random initialisation" not in known:
            add(seed, "random initialisation", untrained_student(config), config)
        if "teacher" not in known:
            add(seed, "teacher", teacher, config)
        for name, (context, deep) in SIDES.items():
            if name in known:
                continue
            layers = every if deep else ()
            cache = work / f"latents-{seed}-{'deep' if deep else 'last'}"
            options = ["--layers", ",".join(map(str, layers))] if layers else []
            make_cache([
                "--teacher", f"checkpoint:{work / f'teacher-{seed}' / 'teacher'}", "--out", str(cache),
                "--data.path", str(cached_demo(config.demo) / "train"), *options,
            ])  # fmt: skip
            folder = work / f"student-{seed}-{name.replace(' ', '-')}"
            run = student(settings(preset, seed, folder, teacher_steps, steps), context, layers, cache)
            if not (folder / "student" / "encoder.json").exists():
                train("salt", run)
            add(seed, name, load_encoder(folder / "student"), config)


def probe(encoder: VideoViT, config: SaltConfig) -> dict[str, Any]:
    """Probe an encoder by kNN, linear and attentive probes of the motion, and by the position told from one token."""
    folder, views, device = cached_demo(config.demo), view_spec(config.data), torch.device("cpu")
    data = ProbeData(
        open_source(folder / "train"),
        open_source(folder / "test"),
        ["circular", "helical", "linear", "parabolic"],
        views,
    )
    (row,) = run_probes([ProbeEntry("student", encoder, encoder.grid)], data, config.probe, device=device)["rows"]

    def clips(source: Any, most: int) -> Any:
        rows = range(min(most, len(source.samples)))
        return eval_batches(source, rows, EvaluationDraws(views), batch=64, quarantine=Quarantine(), threads=1)

    where = demo_positions(config.demo.seed, config.demo.spec, encoder.grid[0])
    score = position_probe(
        encoder, encoder.grid, where, lambda: clips(data.train, 512), lambda: clips(data.test, 512), device
    )
    return {**{name: row[name] for name in CLASSIFIERS}, "position": asdict(score)}


def table(results: dict[str, Any]) -> str:
    """Return the results of ``learn`` as a table in Markdown."""

    def percent(found: dict[str, float]) -> str:
        return f"{100 * found['accuracy']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"

    def pixels(found: dict[str, float]) -> str:
        side = demo().demo.spec.size
        return f"{side * found['error']:.1f} [{side * found['low']:.1f}, {side * found['high']:.1f}]"

    rows = {(row["seed"], row["side"]): row for row in results["rows"]}
    lines = [
        "| seed | student | kNN, % | linear, % | attentive, % | position: R2 | off by, pixels |",
        "|---|---|---|---|---|---|---|",
    ]
    for (seed, side), row in sorted(rows.items(), key=lambda item: item[0][0]):
        classes = " | ".join(percent(row[name]) for name in CLASSIFIERS)
        where = row["position"]
        lines.append(f"| {seed} | {side} | {classes} | {where['r2']:.3f} | {pixels(where)} |")
    for side in list(SIDES)[1:]:
        pairs = [
            (rows[seed, side], rows[seed, "plain"]) for seed, name in rows if name == side and (seed, "plain") in rows
        ]
        if not pairs:
            continue
        changes = [statistics.mean(100 * (a[n]["accuracy"] - b[n]["accuracy"]) for a, b in pairs) for n in CLASSIFIERS]
        r2 = statistics.mean(a["position"]["r2"] - b["position"]["r2"] for a, b in pairs)
        off = demo().demo.spec.size * statistics.mean(a["position"]["error"] - b["position"]["error"] for a, b in pairs)
        classes = " | ".join(f"{change:+.1f}" for change in changes)
        lines.append(f"| mean of {len(pairs)} | {side} - plain | {classes} | {r2:+.3f} | {off:+.1f} |")
    return "\n".join(lines)


def step_of(
    config: SaltConfig, context: float, layers: tuple[int, ...], clips: int, fake: AbstractContextManager[object]
) -> Callable[[], None]:
    """Return a function that makes a student's step, forward and backward, on latents that are there already.

    Args:
        config: sizes.
        context: weight of the loss on visible tokens.
        layers: of the teacher.
        clips: in the step, of noise.
        fake: a FakeTensorMode, for operations to be counted and not done, or a nullcontext.
    """
    shape = config.model.for_clips(frames=config.data.frames, size=config.data.size)
    encoder = VideoViT(shape)
    masks = MaskSampler(config.mask, encoder.grid, config.predictor.tokens, 0, "salt")
    drawn = masks.complete(torch.arange(clips), 0)
    targets = TeacherTargets(with_layers(EncoderTeacher(copy.deepcopy(encoder)), layers), torch.device("cpu"))
    loss_config = replace(config.loss, context=context, context_warmup=(0.0, 0.0))
    module = with_predictor(encoder, targets, masks, config.predictor, loss_config, config.model)
    with fake:
        latents = Latents(torch.randn(clips, len(encoder.positions) * targets.layers, targets.dim))
        pixels = torch.randint(256, (clips, shape.frames, shape.size, shape.size, 3), dtype=torch.uint8)
        ids = torch.arange(clips)
        here = [(torch.empty_like(v, device="cpu"), torch.empty_like(m, device="cpu")) for v, m in drawn]
    if isinstance(fake, nullcontext):
        here = drawn
    batch = Batch(keys=[str(i) for i in range(clips)], ids=ids, view_hashes=ids, clips=pixels)
    targets.prepare = lambda batch: latents  # type: ignore[method-assign]
    masks.complete = lambda ids, draw: here  # type: ignore[method-assign]
    loss = StageLoss(loss_config, masks, targets, World(0, 1, torch.device("cpu")), draws=10)

    def step() -> None:
        module.zero_grad(set_to_none=True)
        loss(module, batch, 0)[0].backward()

    return step


def cost(rounds: int, out: Path) -> None:
    """Write GFLOP a clip of a ViT-B's step, and processor milliseconds a step of the demo's, sides in turns."""
    counted: dict[str, float] = {}
    for name, (context, deep) in SIDES.items():
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        step = step_of(vit_base(), context, (3, 6, 9, 12) if deep else (), 1, fake)
        with fake, FlopCounterMode(display=False) as counter:
            step()
        counted[name] = counter.get_total_flops() / 1e9
    torch.set_num_threads(1)
    small = demo()
    steps = {
        name: step_of(small, context, (1, 2, 3) if deep else (), small.optim.batch, nullcontext())
        for name, (context, deep) in SIDES.items()
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):  # the first two warm up
        for name, step in steps.items():
            begun = time.process_time()
            step()
            if turn > 1:
                times[name].append(1e3 * (time.process_time() - begun))
    medians = {name: statistics.median(values) for name, values in times.items()}
    results = {"vit_base_gflop_a_clip": counted, "demo_processor_ms_a_step": medians}
    write_whole(out, json.dumps(results, indent=1).encode() + b"\n")
    print(json.dumps(results, indent=1))


def main() -> None:
    """Run one of the two measurements, or show the first one's results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("learn", "table", "cost"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--preset", choices=("demo", "proof"), default="demo")
    parser.add_argument("--teacher-steps", type=int, help="default: the preset's")
    parser.add_argument("--steps", type=int, help="default: the preset's")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--work", type=Path, default=Path("runs/salt-targets"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.what == "cost":
        cost(options.rounds, options.out)
    elif options.what == "table":
        print(table(json.loads(options.out.read_text())))
    else:
        options.work.mkdir(parents=True, exist_ok=True)
        learn(options.preset, options.seeds, options.teacher_steps, options.steps, options.work, options.out)


if __name__ == "__main__":
    main()
