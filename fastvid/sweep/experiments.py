"""``experiments.csv`` and a JSON file a run, in the columns and keys of the published V-JEPA 2 experiments.

Accuracies are shares, times seconds unless the name says otherwise. A published ``batch_size`` is that of one forward
pass, of which ``accumulation_steps`` make an update; their training time includes the frozen backbone in every epoch,
ours has it in ``features_sec``, spent by whichever run came first. Columns that a run has no value for are empty:
``num_videos_per_class`` where all videos are used, the LoRA columns without adapters.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastvid.files import write_whole
from fastvid.sweep.grid import PUBLISHED_NAMES
from fastvid.sweep.results import CellResult
from fastvid.train.rundir import write_json

PUBLISHED_COLUMNS = (
    "timestamp", "approach", "num_videos_per_class", "num_train_videos", "num_val_videos", "num_test_videos",
    "frames_per_clip", "learning_rate", "weight_decay", "batch_size", "accumulation_steps", "num_epochs",
    "trainable_params", "total_params", "trainable_pct", "final_test_acc", "best_val_acc", "training_time_sec",
    "training_time_min", "lora_rank", "lora_alpha", "lora_dropout",
)  # fmt: skip
_LATER_COLUMNS = ("git_hash", "final_train_acc", "best_epoch", "inference_time_ms")
_OUR_COLUMNS = ("seed", "features_sec", "test_low", "test_high", "run")


def write_csv(path: Path, results: Sequence[CellResult]) -> None:
    """Write a row for each result: 22 published columns, those published later, then ours."""
    classes = sorted({_key(name) for result in results for name in result.found["classes"]})
    measures = [f"{measure}_{name}" for name in classes for measure in ("precision", "recall", "f1")]
    text = io.StringIO()
    columns = [*PUBLISHED_COLUMNS, *_LATER_COLUMNS, *measures, *_OUR_COLUMNS]
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for result in results:
        row = {**_facts(result), **_derived(result), **_ours(result)}
        for name, scores in result.found["test"]["per_class"].items():
            row |= {f"{measure}_{_key(name)}": scores[measure] for measure in ("precision", "recall", "f1")}
        writer.writerow({name: "" if value is None else value for name, value in row.items()})
    write_whole(path, text.getvalue().encode(), sync=False)


def write_run_json(path: Path, result: CellResult) -> None:
    """Write one run's metrics with the published keys; keys that they do not have come last."""
    found = result.found
    content = _facts(result)
    if found["lora"] is None:
        content = {name: value for name, value in content.items() if not name.startswith("lora_")}
    content |= {
        "total_training_time": result.seconds,
        "model_name": found["model"],
        "seed": found["seed"],
        "num_workers": result.threads,
        "epochs": result.epochs,
        "train_loss": found["curves"]["train_loss"],
        "val_acc": found["curves"]["val_accuracy"],
        "per_class_metrics": {
            name: {measure: scores[measure] for measure in ("precision", "recall", "f1")}
            for name, scores in found["test"]["per_class"].items()
        },
        "confusion_matrix": {"matrix": found["test"]["confusion"], "classes": found["classes"]},
        **{name: value for name, value in _ours(result).items() if name != "seed"},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or json.loads(path.read_text()) != json.loads(json.dumps(content)):
        write_json(path, content)


def run_names(result: CellResult) -> tuple[str, str]:
    """Return the names of a run's JSON file, without its ending, and of its TensorBoard folder.

    The published TensorBoard runs are called ``ntu_...`` after their data set; here it is the one that was used.
    """
    json_name, board_name = PUBLISHED_NAMES[result.cell.approach]
    amount = "all" if result.cell.videos is None else result.cell.videos
    tail = f"{amount}videos_{result.found['frames']}frames_{result.started}"
    return f"{json_name}_metrics_{tail}", f"{result.data}_{board_name}_{tail}"


def _facts(result: CellResult) -> dict[str, Any]:
    found = result.found
    lora = found["lora"] or {}
    optim = found["optim"]
    return {
        "timestamp": result.started,
        "approach": found["approach"],
        "num_videos_per_class": found["videos_per_class"],
        "num_train_videos": found["videos"]["train"],
        "num_val_videos": found["videos"]["val"],
        "num_test_videos": found["videos"]["test"],
        "frames_per_clip": found["frames"],
        "learning_rate": optim["lr"],
        "weight_decay": optim["weight_decay"],
        "batch_size": optim["batch"] // optim["accumulate"],
        "accumulation_steps": optim["accumulate"],
        "num_epochs": optim["epochs"] or result.epochs[-1],  # 0: the number of steps was given
        "trainable_params": found["parameters"]["trainable"],
        "total_params": found["parameters"]["total"],
        "final_test_acc": found["test"]["accuracy"],
        "final_train_acc": found["train_accuracy"],
        "best_val_acc": found["best"]["val_accuracy"],
        "best_epoch": round(found["best"]["epoch"]),
        "inference_time_ms": found["test"]["inference_ms_per_clip"],
        "lora_rank": lora.get("rank"),
        "lora_alpha": lora.get("alpha"),
        "lora_dropout": lora.get("dropout"),
    }


def _derived(result: CellResult) -> dict[str, float]:
    parameters = result.found["parameters"]
    return {
        "trainable_pct": 100 * parameters["trainable"] / parameters["total"],
        "training_time_sec": result.seconds,
        "training_time_min": result.seconds / 60,
    }


def _ours(result: CellResult) -> dict[str, Any]:
    test = result.found["test"]
    return {
        "git_hash": result.found["git"],
        "seed": result.found["seed"],
        "features_sec": result.found["time"]["features_s"],
        "test_low": test["low"],
        "test_high": test["high"],
        "run": result.cell.name,
    }


def _key(name: str) -> str:
    """Return a class's name as part of a column's name."""
    return name.lower().replace(" ", "_")
