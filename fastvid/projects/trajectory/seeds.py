"""``python -m fastvid.projects.trajectory.seeds RUN...``: figures over runs with different seeds, as a Markdown table.

Intervals are hierarchical: runs are resampled, then the videos of each. What a seed draws once, such as the first
weights, moves all videos alike, so an interval of one run is too narrow.
"""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fastvid.command import UserError, command
from fastvid.eval.attention import THRESHOLD, mean_of_sums
from fastvid.eval.hierarchical import balanced_of_sums, bootstrap_interval, mean_over_runs
from fastvid.projects.trajectory.recipe_files import RESULT
from fastvid.report.records import read_json


@command
def main(arguments: list[str]) -> int:
    """Print the table of the named runs."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    print(table_over_seeds([Path(name) for name in arguments]))
    return 0


def table_over_seeds(runs: Sequence[Path]) -> str:
    """Return a Markdown table: one line for each model that all runs have.

    Raises:
        UserError: a run has no result, or runs differ in more than the seed.
    """
    found = []
    for run in runs:
        result = read_json(run / RESULT)
        if result is None:
            raise UserError(f"{run} has no {RESULT}: a trajectory run writes it at its end, which --resume comes to")
        found.append(result)
    for name in ("variant", "task", "tracker"):
        if len({result[name] for result in found}) > 1:
            raise UserError(f"the runs differ in more than the seed: {name} is {[result[name] for result in found]}")
    if len({result["seed"] for result in found}) < len(found):
        raise UserError(f"each seed counts once; got seeds {[result['seed'] for result in found]}")
    lines = [
        "| model | class, % | verdicts, % | attention ratio | ratio of each seed | consistency, % |",
        "|---|---|---|---|---|---|",
    ]
    for name in found[0]["models"]:
        if not all(name in result["models"] for result in found):
            continue
        arrays = [np.load(run / f"model-{name}" / "test.npz") for run in runs]
        target, verdict = ([one[which] for one in arrays] for which in ("target_rows", "verdict_rows"))
        logs = [one["log_ratios"][~np.isnan(one["log_ratios"])] for one in arrays]
        ratios = [np.stack([values, np.ones(len(values))], 1) for values in logs]
        above = [np.stack([values > math.log(THRESHOLD), np.ones(len(values))], 1) for values in logs]
        low, high = bootstrap_interval(ratios, mean_of_sums)
        each = " ".join(f"{math.exp(values.mean()):.2f}" for values in logs)
        lines.append(
            f"| {name} | {_percent(target, balanced_of_sums)} | {_percent(verdict, balanced_of_sums)} | "
            f"{math.exp(mean_over_runs(ratios, mean_of_sums)):.2f} [{math.exp(low):.2f}, {math.exp(high):.2f}] | "
            f"{each} | "
            f"{_percent(above, mean_of_sums)} |"
        )
    return "\n".join(lines)


def _percent(groups: Sequence[np.ndarray], statistic: Callable[[np.ndarray], np.ndarray]) -> str:
    low, high = bootstrap_interval(groups, statistic)
    return f"{100 * mean_over_runs(groups, statistic):.1f} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
