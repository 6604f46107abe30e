"""Cost of each form of a latent cache, and the accuracy of a student trained on it, on the demo data set.

    python -m benchmarks.loading.latent_forms --work DIR --out docs/results/latent-forms.json

trains the demo preset's pixel teacher once, then one student with that teacher online and one for each form of the
cache, all with the same seed, videos, views and number of steps; and reads each cache in random order. The demo's clips
are whole videos without crops, so that every draw of a view is the same view: the students differ in their targets
alone.

Reading speed is also measured on caches of noise of a ViT-B's size.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from fastvid.data import EpochSampler, TrainLoader, ViewDraws, open_source
from fastvid.data.demo.files import cached_demo
from fastvid.latents import LatentCache, LatentManifest
from fastvid.latents.file import LatentFileWriter, empty_latents
from fastvid.projects.salt.presets import demo
from fastvid.units import size
from fastvid.video import ViewSpec

# Name in the table: options of `python -m fastvid.cache`; None for the teacher online.
FORMS: dict[str, list[str] | None] = {
    "online, float32": None,
    "fp16": ["--form", "fp16"],
    "int8": ["--form", "int8"],
    "fp16, pca:16": ["--form", "fp16", "--projection", "pca:16"],
    "fp16, 25 % of the tokens": ["--form", "fp16", "--tokens", "0.25"],
    "bf16": ["--form", "bf16"],
    "fp16, random:16": ["--form", "fp16", "--projection", "random:16"],
    "int8, pca:16, 25 % of the tokens": ["--form", "int8", "--projection", "pca:16", "--tokens", "0.25"],
    "online, shown 3 times, fp16": None,
}
# Rows without a cache: options of the training command.
ONLINE = {"online, float32": [], "online, shown 3 times, fp16": ["--latent-window.echo", "3"]}
FULL_SIZE: dict[str, dict] = {
    "fp16, 1568 x 768": {"form": "fp16", "tokens": 1568, "dim": 768},
    "int8, 1568 x 768": {"form": "int8", "tokens": 1568, "dim": 768},
    "int8, 1568 x 384": {"form": "int8", "tokens": 1568, "dim": 384},
    "int8, 392 x 384": {"form": "int8", "tokens": 392, "dim": 384},
}
_READ_SECONDS = 2.0
_BATCH = 64


def main() -> None:
    """Run everything that is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and caches; what is there is kept")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--teacher-steps", type=int, default=800, help="steps of the pixel teacher (preset: 800)")
    parser.add_argument("--steps", type=int, default=1100, help="steps of each student (preset: 1100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-probes", action="store_true", help="losses only: with few steps probes find nothing yet")
    parser.add_argument("--forms", type=int, default=len(FORMS), help="only the first so many rows")
    parser.add_argument("--only", nargs="+", choices=FORMS, default=list(FORMS), help="only these rows")
    parser.add_argument("--no-full-size", action="store_true", help="do not measure reading latents of a ViT-B's size")
    options = parser.parse_args()
    videos = cached_demo(demo().demo) / "train"
    teacher = options.work / "teacher"
    common = ["--run.seed", str(options.seed), "--run.threads", "1", "--run.tensorboard", "False"]
    if not (teacher / "teacher" / "encoder.json").exists():
        steps = ["--teacher.optim.steps", str(options.teacher_steps), "--optim.steps", "0", "--probe.enabled", "False"]
        run("fastvid.train", "salt", "--run.dir", str(teacher), *steps, *common)
    source = f"checkpoint:{teacher / 'teacher'}"
    common += ["--teacher.source", source, "--optim.steps", str(options.steps)]
    probes = ["--probe.enabled", "False"] if options.no_probes else []
    rows: list[dict] = []
    loads = [os.getloadavg()[0]]
    for name in [name for name in list(FORMS)[: options.forms] if name in options.only]:
        form = FORMS[name]
        folder = options.work / name.replace(" ", "").replace(",", "-").replace(":", "").replace("%", "pct")
        row: dict = {"form": name}
        latents = []
        if form is not None:
            cache = folder / "latents"
            out = run("fastvid.cache", "--teacher", source, "--data.path", str(videos), "--out", str(cache), *form)
            row |= {"made": out.strip().splitlines()[-2]} | read_speed(cache)
            latents = ["--latents", str(cache)]
        else:
            row |= teacher_speed(source, videos)
            latents = ONLINE[name]
        student = folder / "run"
        if (student / "config.json").exists():
            run("fastvid.train", "salt", "--resume", str(student), *probes)
        else:
            run("fastvid.train", "salt", "--run.dir", str(student), *common, *probes, *latents)
        row |= learnt(student)
        rows.append(row)
        loads.append(os.getloadavg()[0])
        print(json.dumps(row), flush=True)
    conditions = {
        "processor": processor(), "cores": os.cpu_count(), "load_averages": loads, "torch": torch.__version__,
        "teacher_steps": options.teacher_steps, "student_steps": options.steps, "seed": options.seed,
        "nice": os.nice(0), "read_batch": _BATCH,
    }  # fmt: skip
    large = [] if options.no_full_size else full_size(options.work)
    results = {"conditions": conditions, "rows": rows, "full_size": large}
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(table(rows))
    for r in large:
        print(
            f"{r['form']:20s} {size(r['disk_bytes_per_clip']):>8s} {r['read_mb_per_s']:,.0f} MB/s "
            f"{r['read_clips_per_s']:,.0f} clips/s, written at {r['write_clips_per_s']:,.0f} clips/s"
        )


def run(module: str, *arguments: str) -> str:
    """Run a command of the package and return what it printed."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed with {done.returncode}:\n{done.stderr}")
    return done.stdout


def read_speed(folder: Path) -> dict:
    """Read random batches for a while: from the page cache, as the set is small; checksums are compared. Beside the
    wall clock stands the processor's: they differ where other programs run too."""
    cache = LatentCache(folder)
    manifest = cache.manifest
    clips = [(key, hashes[0]) for key, hashes in cache.clips()]
    rng, count, started, worked = random.Random(0), 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < _READ_SECONDS:
        keys, hashes = zip(*rng.choices(clips, k=_BATCH), strict=True)
        cache.read(keys, hashes)
        count += _BATCH
    seconds, processor_seconds = time.perf_counter() - started, time.process_time() - worked
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "disk_bytes_per_clip": disk / len(clips),
        "read_clips_per_s": count / seconds,
        "read_mb_per_s": count * manifest.view_bytes / seconds / 1e6,
        "read_mb_per_processor_s": count * manifest.view_bytes / processor_seconds / 1e6,
        "projection": manifest.notes.get("projection"),
    }


def full_size(folder: Path) -> list[dict]:
    """Write and read caches of latents as large as a ViT-B's, 16 x 224 x 224, filled with noise."""
    rows: list[dict] = []
    for name, changes in FULL_SIZE.items():
        facts = {
            "teacher": "noise", "weights": "", "layer": "last", "precision": "float32", "grid": (8, 14, 14),
            "views": ViewSpec().fingerprint, "view_seed": 0, "views_per_clip": 1, "projection": "none",
            "projection_hash": "", "token_seed": 0, "dataset": "noise", "clips": _BATCH, "shards": 1,
        }  # fmt: skip
        manifest = LatentManifest(**(facts | changes))
        cache = folder / f"full-size-{len(rows)}"
        cache.mkdir(parents=True, exist_ok=True)
        manifest.save(cache)
        started = time.perf_counter()
        with LatentFileWriter(cache / "noise.safetensors", manifest) as writer:
            for k in range(_BATCH):
                latents = empty_latents(manifest, 1)
                for part in latents.parts:
                    part.copy_(torch.randint(-100, 100, part.shape))
                writer.add(f"clip {k}", [k], latents)
            writer.commit()
        seconds = time.perf_counter() - started
        rows.append({"form": name, "write_clips_per_s": _BATCH / seconds} | read_speed(cache))
        shutil.rmtree(cache)
    return rows


def teacher_speed(source: str, videos: Path) -> dict:
    """Measure the clips per second of the teacher alone, on clips that are already decoded."""
    from fastvid.latents.config import CacheData
    from fastvid.models.teachers import load_teacher

    spec = CacheData(path=str(videos)).views(source)
    teacher = load_teacher(source, frames=spec.frames, size=spec.size)
    videos_there = open_source(videos)
    sampler = EpochSampler(videos_there.shard_sizes, batch=_BATCH, seed=0)
    with TrainLoader(videos_there, ViewDraws(spec, 0), sampler) as loader:
        clips = next(loader).clips
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < _READ_SECONDS:
        teacher(clips)
        count += _BATCH
    return {"teacher_clips_per_s": count / (time.perf_counter() - started)}


def learnt(run_dir: Path) -> dict:
    """Return the loss, speed and probes of a student."""
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    losses = [r for r in records if "loss" in r][-10:]
    health = [r for r in records if "health_probe_loss" in r][-1]
    speeds = sorted(r["clips_per_s"] for r in records if "loss" in r)
    probes = run_dir / "probe.json"
    student = json.loads(probes.read_text())["rows"][0] if probes.exists() else {}
    return {
        "loss": sum(r["loss"] for r in losses) / len(losses),
        "loss_over_mean_predictor": health["health_probe_loss"] / health["health_mean_predictor_loss"],
        "train_clips_per_s": speeds[len(speeds) // 2],
        "repeated_targets": losses[-1].get("repeated_targets"),
        **{probe: student[probe] for probe in ("knn", "linear", "attentive") if student},
    }


def processor() -> str:
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def table(rows: list[dict]) -> str:
    """Format the rows in Markdown."""
    out = ["| targets | disk per clip | read MB/s | read clips/s | loss | loss / mean predictor's | linear probe |"]
    out.append("|---|---|---|---|---|---|---|")
    for r in rows:
        disk = size(r["disk_bytes_per_clip"]) if "disk_bytes_per_clip" in r else "-"
        read = [f"{r[name]:,.0f}" if name in r else "-" for name in ("read_mb_per_s", "read_clips_per_s")]
        if "teacher_clips_per_s" in r:
            read[1] = f"{r['teacher_clips_per_s']:,.0f} (computed)"
        probe = "-"
        if "linear" in r:
            accuracy, low, high = (100 * r["linear"][name] for name in ("accuracy", "low", "high"))
            probe = f"{accuracy:.1f} % [{low:.1f}, {high:.1f}]"
        cells = [r["form"], disk, *read, f"{r['loss']:.4f}", f"{r['loss_over_mean_predictor']:.3f}", probe]
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


if __name__ == "__main__":
    main()
