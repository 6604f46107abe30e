"""The folder of a sweep, locked for one process, and what is in it.

sweep.json         the runs, the options they share, every start, what failed and why
runs/NAME/         the runs; see fastvid.train.rundir
console/NAME.txt   what each run printed
runs.csv           a row for each finished run
compare.html       the comparison
search.db, search.json    of a search: Optuna's study, and its trials

A project's SweepPlan adds files of its own, and folders that runs share, such as features.
"""

import platform
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import fastvid
from fastvid.command import UserError
from fastvid.files import owned
from fastvid.projects.sweep import FinishedRun
from fastvid.report.records import RunRecords, read_json
from fastvid.sweep.grid import SweepRun, run_name
from fastvid.sweep.manifest import FIELDS, Manifest, fixed_of, join, runs_of, to_cells
from fastvid.sweep.options import GivenOptions
from fastvid.sweep.project_options import ProjectOptions
from fastvid.train.rundir import is_locked, write_json

_MANIFEST = "sweep.json"


class SweepFolder:
    """A sweep's folder, locked for this process until :meth:`close`.

    Args:
        path: the folder; made where it is not there.
        options: the project's; default: those of the project whose sweep it is.

    Raises:
        UserError: another sweep is at work in it, or its manifest is damaged.
    """

    def __init__(self, path: Path, options: ProjectOptions | None = None):
        path.mkdir(parents=True, exist_ok=True)
        self.path = path.resolve()
        try:
            self._lock = owned(path / "sweep.lock")
        except BlockingIOError as error:
            raise UserError(f"{error}: two sweeps cannot share a folder") from None
        try:
            self.manifest = read_manifest(self.path)
            self.options = options or ProjectOptions(self.manifest["project"])
        except BaseException:
            self.close()
            raise

    def begin(self, given: GivenOptions, search: dict[str, Any] | None = None) -> list[SweepRun]:
        """Record a start, and return the runs that it asks for.

        Raises:
            UserError: what is in the folder already was made otherwise.
        """
        self.manifest, wanted = joined(self.path, self.manifest, self.options, given, search)
        self.manifest["starts"].append(
            {
                "time": datetime.now().isoformat(timespec="seconds"),
                "command": [Path(sys.executable).name, *sys.orig_argv[1:]],
                "host": platform.node(),
                "fastvid": fastvid.__version__,
                "python": platform.python_version(),
            }
        )
        self.save()
        return wanted

    def add_trial(self, base: Mapping[str, str], drawn: Mapping[str, str], number: int) -> SweepRun:
        """Add the run of a search's trial, and return it.

        Args:
            base: what all trials share: value by option.
            drawn: options of this one.
            number: its number.
        """
        run = SweepRun(run_name(base, self.options, number), {**base, **drawn}, number)
        every = {**{known.name: known for known in self.runs}, run.name: run}
        self.manifest["cells"] = to_cells(every.values(), self.options)
        self.save()
        return run

    @property
    def runs(self) -> list[SweepRun]:
        """Return all runs of the sweep, in the order of its tables."""
        return runs_of(self.manifest, self.options) if self.manifest else []

    @property
    def fixed(self) -> dict[str, str]:
        """Return the options that all runs share: value by option."""
        return fixed_of(self.manifest)

    @property
    def failed(self) -> dict[str, dict]:
        """Return the runs whose last try failed, by name, with ``code`` and ``error``."""
        return self.manifest["failed"]

    def finished(self) -> list[FinishedRun]:
        """Read the runs that are finished, in the order of the tables."""
        found = []
        for run in self.runs:
            if self.is_finished(run):
                records = RunRecords.read(self.run_path(run))
                read = self.options.plan.read(records)
                found.append(FinishedRun(run.name, run.values, run.trial, records, read))
        return found

    def is_finished(self, run: SweepRun) -> bool:
        """Return whether a run has ended well."""
        path, result = self.run_path(run), self.options.plan.result_file
        if result is not None and not (path / result).is_file():
            return False
        return read_json(path / "status.json", {}).get("state") == "finished"

    def run_path(self, run: SweepRun) -> Path:
        """Return the directory of a run."""
        return self.path / "runs" / run.name

    def console(self, run: SweepRun) -> Path:
        """Return the file that a run prints to."""
        return self.path / "console" / f"{run.name}.txt"

    def busy(self) -> list[SweepRun]:
        """Return the runs that are being written by some process."""
        return [run for run in self.runs if is_locked(self.run_path(run))]

    def save(self) -> None:
        """Write the manifest, complete or not at all."""
        write_json(self.path / _MANIFEST, self.manifest)

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a sweep's folder, or return {} where there is none.

    Raises:
        UserError: it is no sweep's, or damaged.
    """
    manifest: Manifest = read_json(path / _MANIFEST, {})
    lacking = sorted(FIELDS - manifest.keys()) if (path / _MANIFEST).exists() else []
    if lacking:
        raise UserError(f"{path / _MANIFEST} is not a sweep's: it lacks {', '.join(lacking)}; give another --out")
    return manifest


def joined(
    path: Path, manifest: Manifest, options: ProjectOptions, given: GivenOptions, search: dict[str, Any] | None = None
) -> tuple[Manifest, list[SweepRun]]:
    """Join a start to what a folder holds; see :func:`fastvid.sweep.manifest.join`."""
    try:
        return join(manifest, options, given, search, begun=any(path.glob("runs/*/config.json")))
    except UserError as error:
        if not manifest:
            raise
        raise UserError(f"{path}: {error}; give another --out, or what fits") from error
