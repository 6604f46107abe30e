"""Comparison of V-JEPA 2 runs: validation accuracy ranks, test accuracy is tested in pairs and chooses nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fastvid.projects.sweep import (
    SEED,
    FinishedRun,
    Group,
    Measure,
    RunResult,
    SearchOption,
    SweepAxis,
    SweepPlan,
)
from fastvid.projects.vjepa2.config import APPROACH, VIDEOS, VJepa2Config
from fastvid.report.records import RunRecords


def read(run: RunRecords) -> RunResult:
    """Read a finished run."""
    found = run.result
    assert found is not None
    test, classes, curves, cost = found["test"], found["classes"], found["curves"], found["time"]
    items = {
        (key, classes[label]): float(label == predicted)
        for key, label, predicted in zip(test["keys"], test["labels"], test["predicted"], strict=True)
    }
    val = found["val"]
    on_gpu = found["memory"]["gpu_peak_gb"]
    # Between two validations there may have been no record of the loss.
    losses = [(x, y) for x, y in zip(curves["epoch"], curves["train_loss"], strict=True) if y is not None]
    return RunResult(
        measures={
            "validation accuracy": Measure(
                found["best"]["val_accuracy"], val["low"], val["high"], "%", 1 / len(classes)
            ),
            "test accuracy": Measure.accuracy(test, 1 / len(classes), items),
            "trainable parameters": Measure(found["parameters"]["trainable"]),
            "training": Measure(cost["train_s"] / 60, unit="min"),
            "per clip": Measure(cost["seconds_per_clip"], unit="s"),
            "peak memory": Measure(found["memory"]["peak_rss_gb"], unit="GB")
            if on_gpu is None else Measure(on_gpu, unit="GB (GPU)"),
        },
        curves={
            "training loss, by epoch": ([x for x, _ in losses], [y for _, y in losses]),
            "validation accuracy, %, by epoch": (curves["epoch"], [100 * share for share in curves["val_accuracy"]]),
        },
    )  # fmt: skip


def _write_files(out: Path, runs: Sequence[FinishedRun]) -> None:
    from fastvid.projects.vjepa2.published import write_published

    write_published(out, runs)


def _sections(groups: Sequence[Group], name: Callable[[Group], str]) -> dict[str, str]:
    from fastvid.projects.vjepa2.comparison import sections

    return sections(groups, name)


def _without_adapters(config: VJepa2Config) -> str:
    return "" if "lora" in config.approach else f"{config.approach} has no adapters, only lr can be searched"


SWEEP = SweepPlan(
    read=read,
    ranks="validation accuracy",
    tests="test accuracy",
    result_file="result.json",
    axes=(
        SweepAxis(
            APPROACH, ("head", "pooler", "lora", "pooler+lora"), search="lora", folder=lambda value: value,
            words=lambda value: value,
        ),
        SweepAxis(
            VIDEOS, ("50", "100", "200"), search="100", alias="--videos-per-class", title="videos a class", none="all",
            folder=lambda value: f"{value}videos",
            words=lambda value: "all videos" if value == "all" else f"{value} videos a class",
        ),
        SweepAxis(SEED, ("0", "1", "2"), search="0", alias="--seed"),
    ),
    within=(VIDEOS,),
    shared={"--features.dir": "features"},
    search={
        "rank": SearchOption("--lora.rank", choices=(4, 8, 16, 32, 64), useless=_without_adapters),
        "alpha": SearchOption("--lora.alpha", choices=(8, 16, 32, 64, 128), useless=_without_adapters),
        "dropout": SearchOption("--lora.dropout", low=0.0, high=0.3, step=0.05, useless=_without_adapters),
        "lr": SearchOption("--optim.lr", low=2e-5, high=2e-3, log=True),
    },
    files=_write_files,
    sections=_sections,
)  # fmt: skip
