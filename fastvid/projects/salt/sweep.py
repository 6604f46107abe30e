"""Comparison of SALT runs: by the probes of the student, with the loss beside them."""

from fastvid.projects.salt.config import SaltConfig
from fastvid.projects.sweep import SEED, Measure, RunResult, SearchOption, SweepAxis, SweepPlan
from fastvid.report.records import RunRecords

STAGE = "salt"
PROBES = {"attentive": "attentive probe", "linear": "linear probe", "knn": "kNN probe"}


def read(run: RunRecords) -> RunResult:
    """Read a finished run: accuracies of the student's probes first, then its loss.

    Losses under different masks, targets or predictors are of different tasks: a loss never ranks. Without labelled
    videos there are no probes, and the run has no rank.
    """
    measures: dict[str, Measure] = {}
    if run.probe is not None:
        rows = {row["encoder"]: row for row in run.probe["rows"]}
        chance = run.probe["chance"]
        for kind, name in PROBES.items():
            measures[name] = Measure.accuracy(rows["student"][kind], chance)
        measures["attentive probe, untrained"] = Measure.accuracy(rows["random initialisation"]["attentive"], chance)
    for name, recorded in (("loss", "loss"), ("rank of tokens", "health_rank")):
        value = run.last(STAGE, recorded)
        if value is not None:
            measures[name] = Measure(value)
    curves = {f"loss, stage {stage}": run.series(stage, "loss") for stage in run.stages}
    ranks, values = run.series(STAGE, "health_rank")
    if ranks:
        curves["effective rank of the student's tokens"] = ranks, values
    return RunResult(measures, curves)


def check(config: SaltConfig) -> None:
    """Refuse runs without probes.

    Raises:
        ValueError: says what to do.
    """
    if not config.probe.enabled:
        raise ValueError("a sweep ranks by the probes, never by the loss alone: leave --probe.enabled False out")
    if missing := [name for name in PROBES if name not in config.probe.probes]:
        raise ValueError(f"a sweep compares by {', '.join(PROBES)}: add {', '.join(missing)} to --probe.probes")


SWEEP = SweepPlan(
    read=read,
    ranks=PROBES["attentive"],
    axes=(SweepAxis(SEED, values=("0", "1"), search="0", alias="--seed"),),
    search={
        "lr": SearchOption("--optim.lr", low=1e-4, high=1e-2, log=True),
        "ratio": SearchOption("--mask.ratio", low=0.2, high=0.95, step=0.05),
        "weight-decay": SearchOption("--optim.weight-decay", low=1e-3, high=0.2, log=True),
    },
    check=check,
)
