"""Comparison of trajectory runs: the balanced accuracy of verdicts ranks, with attention ratio beside it."""

from fastvid.projects.sweep import SEED, Measure, RunResult, SweepAxis, SweepPlan
from fastvid.projects.trajectory.recipe_files import RESULT
from fastvid.report.records import RunRecords, read_json


def read(run: RunRecords) -> RunResult:
    """Read a finished run: the figures of its first worker. Validation videos rank, test videos are tested in pairs."""
    found = read_json(run.path / RESULT)
    name, model = next(iter(found["models"].items()))
    verdict, target, attention = model["verdict"], model["target"], model["attention"]
    measures = {
        "verdicts, validation": Measure(run.last(name, "verdict_accuracy") or 0.0, unit="%", chance=0.5),
        "verdicts": Measure(verdict["balanced_accuracy"], verdict["low"], verdict["high"], "%", 0.5),
        "class": Measure(
            target["balanced_accuracy"], target["low"], target["high"], "%", 1 / len(found["classes"])
        ),
        "class, video by video": Measure(
            sum(model["right"]) / len(model["right"]), unit="%", chance=1 / len(found["classes"]),
            items={key: float(right) for key, right in zip(found["keys"], model["right"], strict=True)},
        ),
    }  # fmt: skip
    if attention["ratio"] is not None:
        measures["attention ratio"] = Measure(attention["ratio"], attention["ratio_low"], attention["ratio_high"])
        measures["consistency"] = Measure(
            attention["consistency"], attention["consistency_low"], attention["consistency_high"], "%"
        )
    curves = {
        f"{title}, by optimizer step": run.series(name, recorded)
        for title, recorded in (("training loss", "loss"), ("attention ratio, validation", "attention_ratio"))
    }
    return RunResult(measures, curves)


SWEEP = SweepPlan(
    read=read,
    ranks="verdicts, validation",
    tests="class, video by video",
    result_file=RESULT,
    axes=(
        SweepAxis(
            "--workers", ("attention", "unsupervised"), search="attention", alias="--worker", title="worker",
            folder=lambda value: value, words=lambda value: value,
        ),
        SweepAxis("--tokens.features", ("pixels", "conv"), alias="--features", title="features"),
        SweepAxis("--controls", ("False",), search="False"),
        SweepAxis(SEED, ("0", "1", "2", "3", "4"), search="0", alias="--seed"),
    ),
)  # fmt: skip
