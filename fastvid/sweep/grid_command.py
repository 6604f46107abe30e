"""Runs a grid."""

import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from fastvid.sweep.check import last_words
from fastvid.sweep.folder import SweepFolder
from fastvid.sweep.grid import Cell
from fastvid.sweep.options import command_line
from fastvid.sweep.publish import publish_page, publish_tables
from fastvid.sweep.results import CellResult, is_finished
from fastvid.sweep.runner import START, HandedOnSignals, Job, run_jobs, wait_until
from fastvid.train.logs import progress

_PAUSE = 5.0  # seconds between pages


class GridRun:
    """One start of a sweep: runs cells, says how they ended, and keeps the tables and the page up to date.

    Args:
        folder: folder of the sweep, begun.
        command: the recipe's, to which options are added.
        places: see :func:`fastvid.sweep.runner.run_jobs`.
        signals: requests to stop.
    """

    def __init__(
        self, folder: SweepFolder, command: Sequence[str], places: Sequence[str | None], signals: HandedOnSignals
    ):
        self.folder, self.command, self.places, self.signals = folder, list(command), places, signals
        self.trouble = False
        self._results: list[CellResult] = []
        self._stale, self._written = True, float("-inf")

    def run(self, cells: Sequence[Cell]) -> int:
        """Run the cells that are not finished, and return the exit code.

        Raises:
            Stopped: by a signal, after the runs under way have saved their state.
        """
        if self.folder.busy():
            names = ", ".join(cell.name for cell in self.folder.busy())
            print(f"waiting for another process, which still writes {names}", file=sys.stderr, flush=True)
            wait_until(lambda: not self.folder.busy(), self.signals)
        todo = [cell for cell in cells if not is_finished(self.folder.run_path(cell))]
        if len(todo) < len(cells):
            print(f"{len(cells) - len(todo)} of {len(cells)} runs are finished already", flush=True)
        self._tables()
        self._stale = bool(self._results)  # a page about nothing can wait
        try:
            self._run(todo, len(cells))
        finally:
            self._page(pause=0)
        failed = [cell.name for cell in cells if cell.name in self.folder.failed]
        if failed:
            print(f"{len(failed)} of {len(cells)} runs failed: {self._reasons(failed)}", file=sys.stderr)
        return 1 if failed or self.trouble else 0

    def _run(self, todo: Sequence[Cell], total: int) -> None:
        started, before = time.monotonic(), total - len(todo)
        tried = before
        with progress(total, before, "sweep", "run") as bar:

            def done(job: Job, code: int, seconds: float) -> None:
                if self.signals.signum and not is_finished(self.folder.run_path(job.cell)):
                    return  # it was asked to stop
                bar.update()
                nonlocal tried
                tried += 1
                line = self._ended(job, code, seconds)
                left = (time.monotonic() - started) / (tried - before) * (total - tried) / 60
                rest = f"; about {left:.0f} min to go" if tried < total else ""
                tqdm.write(f"[{tried}/{total}] {line}{rest}", file=sys.stdout)
                sys.stdout.flush()

            run_jobs(self._jobs(todo), self.places, done, self._page, self.signals)

    def _job(self, cell: Cell) -> Job:
        """Return the job that runs a cell, or continues it."""
        path = self.folder.run_path(cell)
        if (path / "config.json").exists():
            arguments = ["--resume", str(path)]
        else:
            options = self.folder.manifest["options"]
            arguments = [*cell.arguments(), "--run.dir", str(path)]
            if "--features.dir" not in options:
                arguments += ["--features.dir", str(self.folder.path / "features")]
            arguments += command_line(options)
        return Job(cell, [*self.command, *arguments], self.folder.console(cell))

    def _jobs(self, cells: Sequence[Cell]) -> Iterator[Job]:
        for cell in cells:
            tqdm.write(f"{cell}: {self.folder.console(cell)}", file=sys.stderr)
            yield self._job(cell)

    def _ended(self, job: Job, code: int, seconds: float) -> str:
        cell, failed = job.cell, self.folder.failed
        if is_finished(self.folder.run_path(cell)):
            failed.pop(cell.name, None)
        else:
            failed[cell.name] = {"code": code, "error": _error(self.folder.run_path(cell), job.console, code)}
        self.folder.save()
        self._tables()
        found = {result.cell: result for result in self._results}
        if cell in found:
            return f"{cell}: {_accuracy(found[cell])}, {seconds / 60:.1f} min"
        if cell.name in failed:
            return f"{cell}: failed with exit code {code}: {failed[cell.name]['error']}"
        return f"{cell}: finished, {seconds / 60:.1f} min"  # why its result is not there has been said

    def _reasons(self, failed: Sequence[str]) -> str:
        """List failed runs and why. Runs that failed for one reason are listed together."""
        runs: dict[str, list[str]] = {}
        for name in failed:
            runs.setdefault(self.folder.failed[name]["error"], []).append(name)
        return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in runs.items())

    def _tables(self) -> None:
        def write() -> None:
            self._results = publish_tables(self.folder)

        self._try("the tables", write)
        self._stale = True

    def _page(self, pause: float = _PAUSE) -> None:
        """Write the page if something is new, at most once in ``pause`` seconds."""
        if not self._stale or time.monotonic() - self._written < pause:
            return
        self._stale = False
        self._try("the page", lambda: publish_page(self.folder, self._results))
        self._written = time.monotonic()

    def _try(self, what: str, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception:  # runs are worth more than what is written about them
            traceback.print_exc()
            again = f"python -m fastvid.sweep report {self.folder.path}"
            print(f"{what} could not be written; `{again}` tries again", file=sys.stderr)
            self.trouble = True


def _accuracy(result: CellResult) -> str:
    if result.cell.trial is not None:  # nobody is to choose among trials by the test videos
        return f"validation {100 * result.found['best']['val_accuracy']:.1f} %"
    test = result.found["test"]
    return f"test {100 * test['accuracy']:.1f} % [{100 * test['low']:.1f}, {100 * test['high']:.1f}]"


def _error(path: Path, console: Path, code: int) -> str:
    """Describe why a run failed, in one sentence."""
    status = json.loads((path / "status.json").read_text()) if (path / "status.json").is_file() else {}
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if status.get("state") == "failed" and "error" in status:
        return status["error"]
    lines = console.read_text(errors="replace").rpartition(START)[2].splitlines()[1:]
    return last_words(lines)
