"""Making the runs of a sweep, and keeping its tables and its page up to date."""

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from fastvid.projects.sweep import FinishedRun
from fastvid.report.records import read_json
from fastvid.sweep.check import last_words
from fastvid.sweep.folder import SweepFolder
from fastvid.sweep.grid import SweepRun, command_line, run_words
from fastvid.sweep.publish import publish_page, publish_tables
from fastvid.sweep.runner import START, ForwardingSignals, RunProcess, run_all, wait_until
from fastvid.train.logs import progress

_PAUSE = 5.0  # seconds between pages


class SweepStart:
    """One start of a sweep: makes runs, says how they ended, and keeps the tables and the page up to date.

    Args:
        folder: folder of the sweep, begun.
        command: the recipe's, to which options are added.
        places: see :func:`fastvid.sweep.runner.run_all`.
        signals: requests to stop.
    """

    def __init__(
        self, folder: SweepFolder, command: Sequence[str], places: Sequence[str | None], signals: ForwardingSignals
    ):
        self.folder, self.command, self.places, self.signals = folder, list(command), places, signals
        self.trouble = False
        self._results: list[FinishedRun] = []
        self._stale, self._written = True, float("-inf")

    def run(self, runs: Sequence[SweepRun]) -> int:
        """Make the runs that are not finished, and return the exit code.

        Raises:
            Stopped: by a signal, after the runs under way have saved their state.
        """
        if self.folder.busy():
            names = ", ".join(run.name for run in self.folder.busy())
            print(f"waiting for another process, which still writes {names}", file=sys.stderr, flush=True)
            wait_until(lambda: not self.folder.busy(), self.signals)
        todo = [run for run in runs if not self.folder.is_finished(run)]
        if len(todo) < len(runs):
            print(f"{len(runs) - len(todo)} of {len(runs)} runs are finished already", flush=True)
        self._tables()
        self._stale = bool(self._results)  # a page about nothing can wait
        try:
            self._run(todo, len(runs))
        finally:
            self._page(pause=0)
        failed = [run.name for run in runs if run.name in self.folder.failed]
        if failed:
            print(f"{len(failed)} of {len(runs)} runs failed: {self._reasons(failed)}", file=sys.stderr)
        return 1 if failed or self.trouble else 0

    def _run(self, todo: Sequence[SweepRun], total: int) -> None:
        started, before = time.monotonic(), total - len(todo)
        tried = before
        with progress(total, before, "sweep", "run") as bar:

            def done(process: RunProcess, code: int, seconds: float) -> None:
                if self.signals.signum and not self.folder.is_finished(process.run):
                    return  # it was asked to stop
                bar.update()
                nonlocal tried
                tried += 1
                line = self._ended(process, code, seconds)
                left = (time.monotonic() - started) / (tried - before) * (total - tried) / 60
                rest = f"; about {left:.0f} min to go" if tried < total else ""
                tqdm.write(f"[{tried}/{total}] {line}{rest}", file=sys.stdout)
                sys.stdout.flush()

            run_all(self._processes(todo), self.places, done, self._page, self.signals)

    def _process(self, run: SweepRun) -> RunProcess:
        """Return the process that makes a run, or goes on with it."""
        folder = self.folder
        path = folder.run_path(run)
        if (path / "config.json").exists():
            arguments = ["--resume", str(path)]
        else:
            shared = {
                option: str(folder.path / name)
                for option, name in folder.options.plan.shared.items()
                if option not in folder.fixed and option not in run.values
            }
            own = [part for option, where in shared.items() for part in (option, where)]
            arguments = command_line({**run.values, **folder.fixed}, folder.options)
            arguments += ["--run.dir", str(path), *own]
        return RunProcess(run, [*self.command, *arguments], folder.console(run))

    def _processes(self, runs: Sequence[SweepRun]) -> Iterator[RunProcess]:
        for run in runs:
            tqdm.write(f"{run_words(run, self.folder.options)}: {self.folder.console(run)}", file=sys.stderr)
            yield self._process(run)

    def _ended(self, process: RunProcess, code: int, seconds: float) -> str:
        run, failed = process.run, self.folder.failed
        if self.folder.is_finished(run):
            failed.pop(run.name, None)
        else:
            failed[run.name] = {"code": code, "error": _error(self.folder.run_path(run), process.console, code)}
        self.folder.save()
        self._tables()
        words = run_words(run, self.folder.options)
        found = next((result for result in self._results if result.name == run.name), None)
        if found is not None:
            return f"{words}: {self._measured(found)}, {seconds / 60:.1f} min"
        if run.name in failed:
            return f"{words}: failed with exit code {code}: {failed[run.name]['error']}"
        return f"{words}: finished, {seconds / 60:.1f} min"  # why its result is not there has been said

    def _measured(self, run: FinishedRun) -> str:
        plan = self.folder.options.plan
        # Nobody is to choose among the trials of a search by what they are tested on afterwards.
        name = plan.ranks if run.trial is not None else plan.tested
        if name not in run.result.measures:
            return f"no {name}, so it is not ranked"
        return f"{name} {run.result.measures[name]}"

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


def _error(path: Path, console: Path, code: int) -> str:
    """Describe why a run failed, in one sentence."""
    status = read_json(path / "status.json", {})
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if status.get("state") == "failed" and "error" in status:
        return status["error"]
    lines = console.read_text(errors="replace").rpartition(START)[2].splitlines()[1:]
    return last_words(lines)
