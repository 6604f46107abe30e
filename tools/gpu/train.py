"""Stage "train": ``python -m fastvid.train salt`` from end to end, on videos that are rendered and encoded here."""

import importlib.util
import json
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

from tools.gpu.record import Task, read_lines, stage
from tools.gpu.runner import run

NEEDED = ("av", "tyro")


def main(task: Task) -> None:
    """Run the presets one after another; each has what is left of the stage's time."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        task.record.value("not run", f"{' and '.join(missing)} {verb} missing: give --wheels DIR")
        return
    runs = task.work / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    for preset, options in task.scale.presets:
        with task.record.part(preset):
            train(task, preset, options, runs / preset)
    pack(runs, task.results / "runs.tar.gz")


def train(task: Task, preset: str, options: tuple[str, ...], folder: Path) -> None:
    """Run one preset and record its results. Raise where it does not end well."""
    command = [
        sys.executable, "-m", "fastvid.train", "salt", "--preset", preset, "--run.dir", str(folder), "--run.log-every",
        "50" if task.scale.compiled else "1", *options,
    ]  # fmt: skip
    log = task.work / "logs" / f"train-{preset}.log"
    environment = {"FASTVID_CACHE": str(task.work / "cache")}
    ended = run(command, task.left - 5, log, environment, tick=lambda: keep(task, preset, folder))
    keep(task, preset, folder)
    task.record.value(f"{preset}, seconds", round(ended.seconds, 1))
    if ended.killed:
        raise RuntimeError(f"not over after {ended.seconds:.0f} s; what it recorded is kept")
    if ended.code:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise RuntimeError(f"ended with {ended.code}: {lines[-1] if lines else 'no output'}")
    if "probes" not in task.record.values.get(preset, {}):
        raise RuntimeError("there are no probes")


def keep(task: Task, preset: str, folder: Path) -> None:
    """Record what the run's files say so far: of each stage the last record, and the probes."""
    found: dict[str, Any] = {}
    for record in read_lines(folder / "metrics.jsonl"):
        if "clips_per_s" in record:
            shown = {key: value for key, value in record.items() if key in SHOWN or key.startswith("share_")}
            found[record["stage"]] = {"step": record["step"], **shown}
    if (folder / "probe.json").exists():
        found["probes"] = {
            row["encoder"]: {name: value["accuracy"] for name, value in row.items() if name != "encoder"}
            for row in json.loads((folder / "probe.json").read_text())["rows"]
        }
    if found:
        task.record.value(preset, found)


SHOWN = ("loss", "clips_per_s", "gpu_peak_gb", "decode_mb")


def pack(runs: Path, path: Path) -> None:
    """Pack the runs' records and reports, without checkpoints and weights."""

    def small(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if info.isdir():
            return None if Path(info.name).name == "checkpoints" else info
        return info if info.size < 1 << 20 and not info.name.endswith(".safetensors") else None

    with tarfile.open(path, "w:gz") as archive:
        archive.add(runs, "runs", filter=small)


if __name__ == "__main__":
    sys.exit(stage(main))
