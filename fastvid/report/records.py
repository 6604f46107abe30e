"""The contents of a run directory, read for its report."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvid.command import UserError

Record = dict[str, Any]


@dataclass
class RunRecords:
    """The files of a run.

    Attributes:
        path: the run directory.
        config: resolved configuration.
        metadata: command and versions of each start.
        metrics: all records, in order.
        probe: results of the probes, or None.
        result: what a finished classifier's run found, or None.
        bad_samples: videos that could not be used.
        pictures: PNG files made during the run, by title.
    """

    path: Path
    config: Record
    metadata: Record
    metrics: list[Record]
    probe: Record | None
    result: Record | None
    bad_samples: list[Record]
    pictures: dict[str, Path]

    @classmethod
    def read(cls, path: str | Path) -> "RunRecords":
        """Read a run directory.

        Raises:
            FileNotFoundError: it is none.
        """
        path = Path(path)
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"{path} is not a run directory: it has no config.json")
        return cls(
            path=path,
            config=read_json(path / "config.json"),
            metadata=read_json(path / "run.json", {}),
            metrics=_lines(path / "metrics.jsonl"),
            probe=read_json(path / "probe.json"),
            result=read_json(path / "result.json"),
            bad_samples=list({r["key"]: r for r in _lines(path / "bad_samples.jsonl")}.values()),
            pictures={p.stem.replace("-", " "): p for p in sorted((path / "pictures").glob("*.png"))},
        )

    @property
    def stages(self) -> list[str]:
        """Return the names of the stages that left records, in order."""
        return list(dict.fromkeys(record["stage"] for record in self.metrics if "loss" in record))

    def series(self, stage: str, name: str) -> tuple[list[int], list[float]]:
        """Return the steps and values of one quantity of a stage."""
        rows = [(r["step"], r[name]) for r in self.metrics if r.get("stage") == stage and name in r]
        return [step for step, _ in rows], [value for _, value in rows]

    def last(self, stage: str, name: str) -> float | None:
        """Return the last value of a quantity."""
        values = self.series(stage, name)[1]
        return values[-1] if values else None


def project_of(config: Record, facts: Record) -> str:
    """Return the name of the project that a run is of, from its ``config.json`` and ``run.json``."""
    # Runs that are older than this entry are told by an option that only one project has.
    return facts.get("project", "vjepa2" if "approach" in config else "salt")


def read_json(path: Path, default: Any = None) -> Any:
    """Read a JSON file, or return ``default`` if it does not exist.

    Raises:
        UserError: it is damaged.
    """
    if not path.exists():
        return default
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or remove it") from error


def _lines(path: Path) -> list[Record]:
    if not path.is_file():
        return []
    # The last line may be cut short by a kill, and several processes may have named the same bad sample.
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
