"""Whether runs with these options can begin, asked of the recipe before anything is made."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fastvid.command import UserError
from fastvid.sweep.grid import Cell


def check_cells(
    cells: Sequence[Cell], out: Path, command: Sequence[str], options: Sequence[str], place: str | None
) -> None:
    """Check the options of a sweep's new runs with the recipe's ``--check True``.

    One run stands for all: that with the most videos of each class. Those that have begun have proved right already.

    Args:
        cells: cells of the sweep.
        out: its folder, which need not be there.
        command: the recipe's.
        options: options of all runs.
        place: value of CUDA_VISIBLE_DEVICES for the check; None leaves it as it is.

    Raises:
        UserError: the runs would be refused.
        RuntimeError: the check itself failed; what it printed is on stderr.
    """
    new = [cell for cell in cells if not (out / "runs" / cell.name / "config.json").exists()]
    if not new:
        return
    asked = max(new, key=lambda cell: cell.videos or 0)
    done = subprocess.run(
        [*command, *asked.arguments(), *options, "--check"],
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
