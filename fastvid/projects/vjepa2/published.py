"""``experiments.csv``, and a JSON file and TensorBoard events of each run, under the names of the published V-JEPA 2
experiments.

Accuracies are shares, times seconds unless the name says otherwise. A published ``batch_size`` is that of one forward
pass, of which ``accumulation_steps`` make an update; their training time includes the frozen backbone in every epoch,
ours has it in ``features_sec``, spent by whichever run came first. Columns that a run has no value for are empty:
``num_videos_per_class`` where all videos are used, the LoRA columns without adapters.
"""

import csv
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fastvid.files import write_whole
from fastvid.projects.sweep import FinishedRun
from fastvid.projects.vjepa2.config import APPROACH, VIDEOS
from fastvid.train.rundir import write_json

# Under which names the published experiments keep the JSON files and the TensorBoard runs of an approach.
PUBLISHED_NAMES = {
    "head": ("head_only", "head_only"),
    "pooler": ("pooler_head", "pooler_head"),
    "lora": ("lora_action", "action_lora"),
    "pooler+lora": ("pooler_head_lora", "pooler_head_lora"),
    "backbone-lora": ("backbone_lora", "backbone_lora"),
    "full": ("full", "full"),
}

PUBLISHED_COLUMNS = (
    "timestamp", "approach", "num_videos_per_class", "num_train_videos", "num_val_videos", "num_test_videos",
    "frames_per_clip", "learning_rate", "weight_decay", "batch_size", "accumulation_steps", "num_epochs",
    "trainable_params", "total_params", "trainable_pct", "final_test_acc", "best_val_acc", "training_time_sec",
    "training_time_min", "lora_rank", "lora_alpha", "lora_dropout",
)  # fmt: skip
_LATER_COLUMNS = ("git_hash", "final_train_acc", "best_epoch", "inference_time_ms")
_OUR_COLUMNS = ("seed", "features_sec", "test_low", "test_high", "run")


@dataclass(frozen=True)
class PublishedRun:
    """A finished run as the published experiments describe theirs.

    Attributes:
        name: name of its folder.
        approach: what was trained.
        videos: training videos of each class, or ``all``.
        found: its ``result.json``.
        started: when it was first started, ``yymmdd-HHMMSS``.
        data: name of the data set.
        threads: decoding threads it was given; None for the recipe's own choice.
        losses: optimizer steps and training losses as they were recorded.
    """

    name: str
    approach: str
    videos: str
    found: dict[str, Any]
    started: str
    data: str
    threads: int | None
    losses: list[tuple[int, float]]

    @classmethod
    def from_run(cls, run: FinishedRun) -> "PublishedRun":
        """Return the description of a finished run."""
        records = run.records
        assert records.result is not None
        data = records.config.get("data", {})
        return cls(
            name=run.name,
            approach=run.values[APPROACH],
            videos=run.values[VIDEOS],
            found=records.result,
            started=f"{datetime.fromisoformat(records.metadata['starts'][0]['time']):%y%m%d-%H%M%S}",
            data=Path(str(data.get("path", "data")).rstrip("/")).name,
            threads=data.get("threads"),
            losses=[(record["step"], record["loss"]) for record in records.metrics if {"loss", "step"} <= set(record)],
        )

    @property
    def epochs(self) -> list[int]:
        """Return the epochs after which the model was validated. A checkpoint one step short of an epoch counts for
        it.
        """
        return [round(epoch) for epoch in self.found["curves"]["epoch"]]

    @property
    def seconds(self) -> float:
        """Return the seconds of training, without features, because later runs find them made."""
        seconds: float = self.found["time"]["train_s"]
        return seconds

    @property
    def file_names(self) -> tuple[str, str]:
        """Return the names of its JSON file, without the ending, and of its TensorBoard folder.

        The published TensorBoard runs are called ``ntu_...`` after their data set; here it is the one that was used.
        """
        json_name, board_name = PUBLISHED_NAMES[self.approach]
        tail = f"{self.videos}videos_{self.found['frames']}frames_{self.started}"
        return f"{json_name}_metrics_{tail}", f"{self.data}_{board_name}_{tail}"


def write_published(out: Path, runs: Sequence[FinishedRun]) -> None:
    """Write experiments.csv, json/ and tensorboard/ of a sweep. Files that are there stay as they are."""
    results = [PublishedRun.from_run(run) for run in runs]
    write_csv(out / "experiments.csv", results)
    (out / "tensorboard").mkdir(exist_ok=True)
    taken = {path.stem: json.loads(path.read_text())["run"] for path in sorted((out / "json").glob("*.json"))}
    for result in results:
        json_name, board_name = result.file_names
        # Two runs that were started in the same second would share a name.
        own = f"_{result.name.rpartition('videos-')[2]}"
        tail = next(tail for tail in ("", own) if taken.get(json_name + tail, result.name) == result.name)
        taken[json_name + tail] = result.name
        write_run_json(out / "json" / f"{json_name}{tail}.json", result)
        write_events(out / "tensorboard" / f"{board_name}{tail}", result)


def write_csv(path: Path, results: Sequence[PublishedRun]) -> None:
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


def write_run_json(path: Path, result: PublishedRun) -> None:
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


def write_events(path: Path, result: PublishedRun) -> None:
    """Write ``Train/Loss`` by optimizer step, ``Val/Accuracy`` by epoch and ``Test/Final_Accuracy`` at the last
    epoch into a folder. It appears complete or not at all, and an existing one stays.
    """
    if path.exists():
        return
    from torch.utils.tensorboard import SummaryWriter

    found = result.found
    partial = path.with_name(f".{path.name}.part")
    shutil.rmtree(partial, ignore_errors=True)  # of a sweep that was killed
    writer = SummaryWriter(str(partial))
    curves = found["curves"]
    for step, loss in result.losses or zip(curves["step"], curves["train_loss"], strict=True):
        if loss is not None:
            writer.add_scalar("Train/Loss", loss, step)
    for epoch, accuracy in zip(result.epochs, curves["val_accuracy"], strict=True):
        writer.add_scalar("Val/Accuracy", accuracy, epoch)
    writer.add_scalar("Test/Final_Accuracy", found["test"]["accuracy"], result.epochs[-1])
    writer.close()
    partial.rename(path)


def _facts(result: PublishedRun) -> dict[str, Any]:
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


def _derived(result: PublishedRun) -> dict[str, float]:
    parameters = result.found["parameters"]
    return {
        "trainable_pct": 100 * parameters["trainable"] / parameters["total"],
        "training_time_sec": result.seconds,
        "training_time_min": result.seconds / 60,
    }


def _ours(result: PublishedRun) -> dict[str, Any]:
    test = result.found["test"]
    return {
        "git_hash": result.found["git"],
        "seed": result.found["seed"],
        "features_sec": result.found["time"]["features_s"],
        "test_low": test["low"],
        "test_high": test["high"],
        "run": result.name,
    }


def _key(name: str) -> str:
    """Return a class's name as part of a column's name."""
    return name.lower().replace(" ", "_")
