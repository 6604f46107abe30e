"""Check that runs with these options can begin, asked of the recipe before anything is made."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from fastvid.command import UserError
from fastvid.projects.sweep import SEED
from fastvid.sweep.grid import SweepRun, command_line
from fastvid.sweep.project_options import ProjectOptions, number


def representatives(runs: Sequence[SweepRun]) -> list[SweepRun]:
    """Return few runs that stand for all: that with the greatest numbers, that with the least, and one
    for every other value. Types and ranges have been checked already.
    """

    def numbers(run: SweepRun) -> tuple[float, ...]:
        return tuple(number(value) for option, value in run.values.items() if option != SEED)

    def texts(run: SweepRun) -> set[tuple[str, str]]:
        return {(option, value) for option, value in run.values.items() if option != SEED and not number(value)}

    ordered = sorted(runs, key=numbers, reverse=True)
    chosen = ordered[:1]
    chosen += [run for run in ordered[-1:] if numbers(run) != numbers(chosen[0])]
    seen = set[tuple[str, str]]().union(*(texts(run) for run in chosen))
    for run in ordered:
        if texts(run) - seen:
            chosen.append(run)
            seen |= texts(run)
    return chosen


def check_runs(
    runs: Sequence[SweepRun],
    fixed: Mapping[str, str],
    options: ProjectOptions,
    command: Sequence[str],
    place: str | None,
) -> None:
    """Check new runs of a sweep with the recipe's ``--check``.

    Args:
        runs: runs that have not begun; few of them stand for all.
        fixed: options of all runs.
        options: the project's.
        command: what runs the recipe.
        place: value of CUDA_VISIBLE_DEVICES for the check; None leaves it as it is.

    Raises:
        UserError: the runs would be refused.
        RuntimeError: the check itself failed; what it printed is on stderr.
    """
    for run in representatives(runs):
        done = subprocess.run(
            [*command, *command_line({**run.values, **fixed}, options), "--check"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=os.environ if place is None else {**os.environ, "CUDA_VISIBLE_DEVICES": place}, check=False,
        )  # fmt: skip
        if done.returncode == 2:
            raise UserError(f"no run is started: {last_words(done.stdout.splitlines())}")
        if done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode != 0:
            print(done.stdout, file=sys.stderr)
            raise RuntimeError(f"the check of the runs' options failed with exit code {done.returncode}")


def last_words(lines: Sequence[str]) -> str:
    """Extract in one sentence why a run failed, from its output."""
    boxed = [line.strip("│ ") for line in lines if line.startswith("│")]  # as options are refused
    rule = next((i for i, line in enumerate(boxed) if set(line) == {"─"}), len(boxed))
    said = " ".join(boxed[:rule]) or next((line for line in reversed(lines) if line.strip()), "it said nothing")
    said = re.sub(r"^\d\d:\d\d:\d\d [EW] ", "", said)  # as the log has it
    return re.sub(r"\s+", " ", said)[:1000]
