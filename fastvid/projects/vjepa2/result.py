"""``result.json`` of a V-JEPA 2 run: what was trained on what, how well it does, and what it cost."""

import resource
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fastvid
from fastvid.data.storage.remote import without_secrets
from fastvid.eval.classification import Classification
from fastvid.projects.vjepa2.approach import parameter_counts
from fastvid.projects.vjepa2.config import VJepa2Config
from fastvid.projects.vjepa2.model import VJepa2Classifier
from fastvid.report.records import RunRecords
from fastvid.train.labelled import LabelledData

STAGE = "finetune"
RESULTS = ("result.json", "classifier", "confusion.csv")  # of the weights that were trained


@dataclass(frozen=True)
class Tested:
    """The weights that were tested, and how well they do.

    Attributes:
        step: the step they come from, the best that was validated.
        val: results on the validation videos.
        test: results on the test videos.
        precision: precision of the arithmetic.
    """

    step: int
    val: Classification
    test: Classification
    precision: str


def make_result(
    config: VJepa2Config, data: LabelledData, model: VJepa2Classifier, records: RunRecords, tested: Tested
) -> dict[str, Any]:
    """Return the content of ``result.json``.

    Args:
        config: configuration of the run, with the number of steps that were made.
        data: the videos.
        model: with the weights that were tested.
        records: records of the run.
        tested: their results.
    """
    optim, best, test = config.optim, tested.step, tested.test
    trainable, total = parameter_counts(model)
    adapted = model.approach is not None and "lora" in model.approach
    losses = dict(zip(*records.series(STAGE, "loss"), strict=True))
    steps, accuracies = records.series(STAGE, "val_accuracy")
    clips = len(data.train.samples)
    seconds = _training_seconds(records)
    features = records.metadata.get("features", {}).get("seconds", 0.0)
    epochs = [round(step * optim.batch / clips, 2) for step in steps]
    return {
        "project": "vjepa2",
        "approach": config.approach,
        "model": "tiny" if config.model.init == "tiny" else config.model.source,
        "seed": config.run.seed,
        "data": without_secrets(config.data.path),
        "classes": data.classes,
        "leaks": data.leaks,
        "videos_per_class": config.data.videos_per_class,
        "videos": {"train": clips, "val": len(data.val.samples), "test": len(data.test.samples)},
        "frames": config.data.frames,
        "size": config.data.size,
        "precision": tested.precision,
        "optim": {
            "lr": optim.lr, "weight_decay": optim.weight_decay, "batch": optim.batch, "accumulate": optim.accumulate,
            "epochs": optim.max_epochs, "steps": optim.steps,
        },
        "lora": {"rank": config.lora.rank, "alpha": config.lora.alpha, "dropout": config.lora.dropout}
        if adapted else None,
        "parameters": {"trainable": trainable, "total": total},
        "best": {"epoch": epochs[steps.index(best)], "step": best, "val_accuracy": accuracies[steps.index(best)]},
        "evaluate": asdict(config.evaluate),
        "train_accuracy": _last_epoch(records, steps, "accuracy"),
        "val": tested.val.accuracy.as_dict(),
        "test": test.as_dict(),
        "curves": {
            "epoch": epochs, "step": steps, "train_loss": [_mean_between(losses, a, b) for a, b in _spans(steps)],
            "val_accuracy": accuracies,
        },
        "time": {
            "features_s": round(features, 3), "train_s": round(seconds, 3),
            "seconds_per_clip": round((features + seconds) / (optim.steps * optim.batch), 6),
        },
        "memory": {"peak_rss_gb": _peak_memory(), "gpu_peak_gb": records.last(STAGE, "gpu_peak_gb")},
        "git": _revision(),
    }  # fmt: skip


def _spans(steps: list[int]) -> list[tuple[int, int]]:
    return list(zip([0, *steps[:-1]], steps, strict=True))


def _mean_between(values: dict[int, float], after: int, until: int) -> float | None:
    """Return the mean of the records with after < step <= until."""
    inside = [value for step, value in values.items() if after < step <= until]
    return sum(inside) / len(inside) if inside else None


def _last_epoch(records: RunRecords, steps: list[int], name: str) -> float | None:
    values = dict(zip(*records.series(STAGE, name), strict=True))
    return _mean_between(values, *_spans(steps)[-1])


def _training_seconds(records: RunRecords) -> float:
    """Return the wall-clock time of the training steps that count, those of earlier starts included."""
    _, clips = records.series(STAGE, "clips")
    _, speeds = records.series(STAGE, "clips_per_s")
    before, seconds = 0.0, 0.0
    for done, speed in zip(clips, speeds, strict=True):
        seconds += (done - before) / speed if speed else 0.0
        before = done
    return seconds


def _peak_memory() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3)


def _revision() -> str | None:
    """Return the commit of this fastvid, where it is a checkout."""
    folder = Path(fastvid.__file__).resolve().parent
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
