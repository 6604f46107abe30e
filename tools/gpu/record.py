"""Result of a stage: one JSON file, whole at every moment, written anew with each result."""

import argparse
import contextlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastvid.files import write_whole
from tools.gpu.scale import Scale, scale


@dataclass
class Record:
    """The results of one stage.

    Attributes:
        path: the file.
        values: what was found, by name, as JSON values.
        rows: of benchmarks, in the form of ``benchmarks.harness.recorder``.
        failures: one line each.
        running: what began and has not ended: where a stage is killed, this is what hung or was too slow.
    """

    path: Path
    values: dict[str, Any] = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)

    def save(self) -> None:
        """Write the file so that a reader, or a kill, sees the old one or the new one."""
        content = {name: getattr(self, name) for name in ("values", "rows", "failures", "running")}
        write_whole(self.path, json.dumps(content).encode(), sync=False)

    def value(self, name: str, value: Any) -> None:
        """Keep a value."""
        self.values[name] = value
        self.save()

    def fail(self, what: str) -> None:
        """Keep a failure, as one line."""
        self.failures.append(one_line(what))
        self.save()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Run one part of a stage: an exception is a failure of this part, and the stage goes on."""
        began = time.perf_counter()
        self.running.append(name)
        self.save()
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.fail(f"{name}: {type(error).__name__}: {error}")
        finally:
            self.running = [one for one in self.running if one != name]
            self.values.setdefault("seconds by part", {})[name] = round(time.perf_counter() - began, 2)
            self.save()


@dataclass(frozen=True)
class Task:
    """The task of a stage's process.

    Attributes:
        record: where its results go.
        results: folder of what is kept.
        work: folder of everything else: packages, caches, runs.
        until: when the stage is killed, in seconds since the epoch.
        scale: sizes, and the device.
        tune: look for better launch parameters of the Triton kernels first.
    """

    record: Record
    results: Path
    work: Path
    until: float
    scale: Scale
    tune: bool

    @property
    def left(self) -> float:
        """Return the seconds until the stage is killed."""
        return self.until - time.time()


def stage(main: Callable[[Task], None]) -> int:
    """Run a stage's main function with the arguments of this process, and return the exit code: 1 after a failure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--until", type=float, required=True)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--tune", action="store_true")
    given = parser.parse_args()
    record = Record(given.record)
    record.save()
    task = Task(record, given.results, given.work, given.until, scale(given.rehearse), given.tune)
    with record.part(given.record.stem):
        main(task)
    sys.stdout.flush()
    return 1 if record.failures else 0


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines, without a last line that is being written. Return none if it does not exist."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def one_line(text: str, most: int = 300) -> str:
    """Return the text in one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."
