"""What finished runs found."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fastvid.report.records import RunRecords
from fastvid.sweep.folder import SweepFolder
from fastvid.sweep.grid import Cell


@dataclass(frozen=True)
class CellResult:
    """A finished run.

    Attributes:
        cell: which one.
        found: its ``result.json``.
        started: when it was first started, ``yymmdd-HHMMSS``.
        data: name of the data set.
        threads: decoding threads it was given; None for the recipe's own choice.
        losses: optimizer steps and training losses as they were recorded.
    """

    cell: Cell
    found: dict[str, Any]
    started: str
    data: str
    threads: int | None
    losses: tuple[list[int], list[float]]

    @property
    def epochs(self) -> list[int]:
        """Return the epochs after which the model was validated. A checkpoint one step short of an epoch counts for
        it.
        """
        return [round(epoch) for epoch in self.found["curves"]["epoch"]]

    @property
    def seconds(self) -> float:
        """Return the seconds of training, without features, because later runs find them made."""
        return self.found["time"]["train_s"]


def is_finished(path: Path) -> bool:
    """Return whether a run has ended and left its result."""
    status, result = path / "status.json", path / "result.json"
    return status.is_file() and result.is_file() and json.loads(status.read_text()).get("state") == "finished"


def read_results(folder: SweepFolder, cells: Iterable[Cell]) -> list[CellResult]:
    """Read the results of the cells that are finished, in their order."""
    return [_read(cell, path) for cell in cells if is_finished(path := folder.run_path(cell))]


def _read(cell: Cell, path: Path) -> CellResult:
    run = RunRecords.read(path)
    losses = [(record["step"], record["loss"]) for record in run.metrics if "loss" in record and "step" in record]
    data = run.config.get("data", {})
    return CellResult(
        cell=cell,
        found=json.loads((path / "result.json").read_text()),
        started=f"{datetime.fromisoformat(run.metadata['starts'][0]['time']):%y%m%d-%H%M%S}",
        data=Path(str(data.get("path", "data")).rstrip("/")).name,
        threads=data.get("threads"),
        losses=([step for step, _ in losses], [loss for _, loss in losses]),
    )
