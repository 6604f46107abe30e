"""The folder of a sweep, locked for one process, and its manifest.

sweep.json         the grid, the options of all runs, every start, what failed and why
runs/NAME/         the runs; see fastvid.train.rundir
console/NAME.txt   what each run printed
features/          frozen features that runs share
experiments.csv    one row a finished run      json/, tensorboard/    the same, one file and one folder a run
compare.html       the comparison
"""

import platform
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import fastvid
from fastvid.command import UserError
from fastvid.files import owned
from fastvid.report.records import read_json
from fastvid.sweep.grid import Cell, in_grid_order
from fastvid.train.rundir import is_locked, write_json

_MANIFEST = "sweep.json"
_FIELDS = {"project", "search", "cells", "starts", "names", "failed", "options"}


class SweepFolder:
    """A sweep's folder, locked for this process until :meth:`close`.

    Args:
        path: the folder; made where it is not there.

    Raises:
        UserError: another sweep is at work in it, or its manifest is damaged.
    """

    def __init__(self, path: Path):
        path.mkdir(parents=True, exist_ok=True)
        self.path = path.resolve()
        try:
            self._lock = owned(path / "sweep.lock")
        except BlockingIOError as error:
            raise UserError(f"{error}: two sweeps cannot share a folder") from None
        self.manifest: dict[str, Any] = read_json(self.path / _MANIFEST, {})
        lacking = sorted(_FIELDS - self.manifest.keys()) if (self.path / _MANIFEST).exists() else []
        if lacking:
            self.close()
            raise UserError(f"{self.path / _MANIFEST} is no sweep's: it lacks {', '.join(lacking)}; give another --out")

    def begin(
        self, project: str, options: dict[str, list[str]], cells: Sequence[Cell], search: dict[str, Any] | None = None
    ) -> None:
        """Record a start. Cells of earlier starts stay part of the sweep.

        Raises:
            UserError: what is in the folder already was made otherwise.
        """
        if self.manifest:
            self._refuse_changes(project, options, search)
        else:
            self.manifest = {"project": project, "search": search, "cells": [], "starts": [], "names": {}, "failed": {}}
        self.manifest["options"] = options
        self.manifest["starts"].append(
            {
                "time": datetime.now().isoformat(timespec="seconds"),
                "command": [Path(sys.executable).name, *sys.orig_argv[1:]],
                "host": platform.node(),
                "fastvid": fastvid.__version__,
                "python": platform.python_version(),
            }
        )
        self.add(cells)

    def add(self, cells: Sequence[Cell]) -> None:
        """Add cells to the sweep."""
        self.manifest["cells"] = [_to_json(cell) for cell in in_grid_order({*self.cells, *cells})]
        self.save()

    @property
    def cells(self) -> list[Cell]:
        """Return all cells of the sweep, in the order of its tables."""
        return [_from_json(values) for values in self.manifest.get("cells", [])]

    @property
    def failed(self) -> dict[str, dict]:
        """Return the cells whose last try failed, by name, with ``code`` and ``error``."""
        return self.manifest["failed"]

    def run_path(self, cell: Cell) -> Path:
        """Return the directory of a cell's run."""
        return self.path / "runs" / cell.name

    def console(self, cell: Cell) -> Path:
        """Return the file that a cell's run prints to."""
        return self.path / "console" / f"{cell.name}.txt"

    def busy(self) -> list[Cell]:
        """Return the cells whose run is being written by some process."""
        return [cell for cell in self.cells if is_locked(self.run_path(cell))]

    def save(self) -> None:
        """Write the manifest, complete or not at all."""
        write_json(self.path / _MANIFEST, self.manifest)

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()

    def _refuse_changes(self, project: str, options: dict[str, list[str]], search: dict[str, Any] | None) -> None:
        if project != self.manifest["project"]:
            raise UserError(f"{self.path} holds a sweep of {self.manifest['project']}: give another --out")
        if search != self.manifest["search"]:
            held = (
                "another search" if self.manifest["search"] and search else "a search" if search is None else "a grid"
            )
            raise UserError(f"{self.path} holds {held}: give another --out")
        before = self.manifest["options"]
        if options == before or not any((self.run_path(cell) / "config.json").exists() for cell in self.cells):
            return
        changed = [name for name in {**before, **options} if before.get(name) != options.get(name)]
        was = "; ".join(_said(name, before) for name in changed)
        now = "; ".join(_said(name, options) for name in changed)
        raise UserError(
            f"the runs in {self.path} were started with {was}, now it is {now}: runs that differ in more than what is "
            "compared prove nothing; give the same options, or another --out"
        )


def _said(name: str, options: dict[str, list[str]]) -> str:
    return " ".join((name, *options[name])) if name in options else f"no {name}"


def _to_json(cell: Cell) -> dict:
    values = {"approach": cell.approach, "videos_per_class": cell.videos, "seed": cell.seed}
    return values | ({} if cell.trial is None else {"trial": cell.trial, "options": list(cell.options)})


def _from_json(values: dict) -> Cell:
    return Cell(
        values["approach"], values["videos_per_class"], values["seed"], values.get("trial"),
        tuple(values.get("options", ())),
    )  # fmt: skip
