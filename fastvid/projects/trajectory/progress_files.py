"""The files that say how a run stands: views of its record, each written complete or not at all.

HEARTBEAT.txt, PROGRESS.txt, latest_metrics.json and PARALLEL_PROGRESS.md follow every validation, SUCCESS.txt is there
once a worker has met all conditions of the early stop, and attention_metrics.json has the test videos.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from fastvid.files import write_whole
from fastvid.projects.trajectory.config import StopConfig
from fastvid.projects.trajectory.stop import CONDITIONS, conditions_met
from fastvid.projects.trajectory.tokens import TokenSet
from fastvid.projects.trajectory.track_table import TrackTable
from fastvid.projects.trajectory.workers import Model
from fastvid.report.records import RunRecords

Record = Mapping[str, Any]


def write_progress(path: Path, models: Sequence[Model], stop: StopConfig, current: Record | None = None) -> None:
    """Write the files that follow a run's validations.

    Args:
        path: the run's directory.
        models: of the run, in the order in which they are trained.
        stop: conditions of the early stop.
        current: the newest validation, if it is not in the record yet: ``stage``, ``step`` and its values.
    """
    records = list(RunRecords.read(path).metrics)
    if current is not None:
        records = [r for r in records if (r["stage"], r["step"]) != (current["stage"], current["step"]) or "loss" in r]
        records.append(dict(current))
    checks = {model.name: [r for r in records if r["stage"] == model.name and "val_loss" in r] for model in models}
    done = [model.name for model in models if checks[model.name]]
    if not done:
        return
    stage = done[-1]
    newest = checks[stage][-1]
    losses = [r["loss"] for r in records if r["stage"] == stage and "loss" in r]
    latest = {
        "worker": stage, "epoch": newest["epochs"], "max_epochs": newest["max_epochs"],
        "train_loss": losses[-1] if losses else None, "val_loss": newest["val_loss"],
        "val_accuracy": newest["target_accuracy"], "track_accuracy": newest["verdict_accuracy"],
        "attention_ratio": newest.get("attention_ratio"), "consistency": newest.get("consistency"),
    }  # fmt: skip
    now = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    _write(path / "latest_metrics.json", json.dumps(latest, indent=2) + "\n")
    beat = f"Epoch {newest['epochs']:g}/{newest['max_epochs']:g}\nLast update: {now}\nWorker: {stage}\n"
    _write(path / "HEARTBEAT.txt", beat)
    lines = [_line(r) for model in models for r in checks[model.name]]
    _write(path / "PROGRESS.txt", "\n".join([f"Last update: {now}", *lines]) + "\n")
    _write(path / "PARALLEL_PROGRESS.md", _parallel(models, checks, stop, stage, now))
    _write_success(path / "SUCCESS.txt", models, checks, stop)


def write_attention_metrics(path: Path, worker: str, tokens: TokenSet, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``attention_metrics.json``: the attention of each test video.

    Args:
        path: the run's directory.
        worker: the worker whose model it is.
        tokens: of the test videos.
        arrays: ``attention`` [N], ``verdicts`` [n] and ``target_rows`` of :func:`fastvid.projects.trajectory.measures`.
    """
    table = TrackTable.from_tokens(tokens)
    right = (arrays["verdicts"] > 0) == table.persistent
    rows = []
    for v, key in enumerate(tokens.keys):
        span, mine = slice(tokens.offsets[v], tokens.offsets[v + 1]), table.video == v
        weights, kinds = arrays["attention"][span], tokens.persistent[span]
        means = [float(weights[kinds == kind].mean()) if (kinds == kind).any() else None for kind in (True, False)]
        log_ratio = float(arrays["log_ratios"][v])
        rows.append(
            {
                "sample_id": key,
                "num_objects": int(mine.sum()),
                "num_persistent": int(table.persistent[mine].sum()),
                "num_transient": int((~table.persistent[mine]).sum()),
                "accuracy": float(right[mine].mean()) if mine.any() else None,
                "avg_persistent_attention": means[0],
                "avg_transient_attention": means[1],
                "attention_ratio": None if math.isnan(log_ratio) else math.exp(log_ratio),
            }
        )
    _write(path / "attention_metrics.json", json.dumps({"worker": worker, "samples": rows}, indent=1) + "\n")


def _line(record: Record) -> str:
    ratio, consistency = record.get("attention_ratio"), record.get("consistency")
    return (
        f"{record['stage']}: epoch {record['epochs']:g}/{record['max_epochs']:g}  val loss {record['val_loss']:.4f}  "
        f"class accuracy {record['target_accuracy']:.3f}  track accuracy {record['verdict_accuracy']:.3f}  "
        f"attention ratio {_number(ratio)}  consistency {_number(consistency)}"
    )


def _parallel(
    models: Sequence[Model], checks: Mapping[str, Sequence[Record]], stop: StopConfig, running: str, now: str
) -> str:
    lines = [
        "# Workers", "", f"Last update: {now}. Accuracies are balanced; workers take turns on one device.", "",
        "| worker | status | epoch | ratio | validation accuracy | track accuracy | consistency |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for model in models:
        if not checks[model.name]:
            lines.append(f"| {model.name} | waiting | | | | | |")
            continue
        last = checks[model.name][-1]
        met = stop.every and all(conditions_met(stop, last).values())
        status = "complete" if model.name != running or last["epochs"] >= last["max_epochs"] else "running"
        if met:
            status = "all conditions met"
        lines.append(
            f"| {model.name} | {status} | {last['epochs']:g}/{last['max_epochs']:g} | "
            f"{_number(last.get('attention_ratio'))} | {last['target_accuracy']:.3f} | {last['verdict_accuracy']:.3f} "
            f"| {_number(last.get('consistency'))} |"
        )
    return "\n".join(lines) + "\n"


def _write_success(
    path: Path, models: Sequence[Model], checks: Mapping[str, Sequence[Record]], stop: StopConfig
) -> None:
    lines = []
    for model in models:
        met = [record for record in checks[model.name] if all(conditions_met(stop, record).values())]
        if met and model.role == "worker":
            lows = ", ".join(f"{option} {met[0][name]:.3f}" for name, option in CONDITIONS.items())
            lines.append(
                f"{model.name}: all conditions met at epoch {met[0]['epochs']:g}, by the lower ends of the 95 % "
                f"intervals on validation videos: {lows}"
            )
    if lines:
        _write(path, "\n".join(lines) + "\n")
    else:
        path.unlink(missing_ok=True)  # of steps that are trained again


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _write(path: Path, text: str) -> None:
    write_whole(path, text.encode(), sync=False)
