"""Comparison of fVLM runs: the accuracy of the fine pass on validation clips ranks, with the fair ratio beside it."""

from fastvid.projects.fvlm.controls import COARSE, FINE
from fastvid.projects.fvlm.measures import ALL
from fastvid.projects.fvlm.recipe_files import RESULT
from fastvid.projects.sweep import SEED, Measure, RunResult, SweepAxis, SweepPlan
from fastvid.report.records import RunRecords, read_json


def read(run: RunRecords) -> RunResult:
    """Read a finished run. Validation clips rank, test clips are tested in pairs."""
    found = read_json(run.path / RESULT)
    fine, coarse = (found["answers"][name][ALL] for name in (FINE, COARSE))
    ratio, hits = found["ratios"][ALL]["fair"], found["looks"][FINE]["hits"][ALL]
    measures = {
        "fine, validation": Measure(run.last(found["stage"], "val_accuracy_fine_all") or 0.0, unit="%"),
        "fine": Measure(fine["accuracy"], fine["accuracy_low"], fine["accuracy_high"], "%"),
        "fine, clip by clip": Measure(
            sum(found["items"].values()) / len(found["items"]), unit="%", items=found["items"]
        ),
        "coarse": Measure(coarse["accuracy"], coarse["accuracy_low"], coarse["accuracy_high"], "%"),
        "CE coarse / fine": Measure(ratio["ratio"], ratio["low"], ratio["high"]),
    }
    if hits["hit_rate"] is not None:
        measures["hit rate"] = Measure(hits["hit_rate"], unit="%", chance=hits["chance"])
    curves = {
        "training loss, by optimizer step": run.series(found["stage"], "fine_loss"),
        "accuracy of the fine pass on validation clips": run.series(found["stage"], "val_accuracy_fine_all"),
    }
    return RunResult(measures, curves)


SWEEP = SweepPlan(
    read=read,
    ranks="fine, validation",
    tests="fine, clip by clip",
    result_file=RESULT,
    axes=(
        SweepAxis("--model.query", ("deep", "shallow"), search="deep", alias="--query", title="query"),
        SweepAxis(SEED, ("0", "1", "2"), search="0", alias="--seed"),
    ),
)
