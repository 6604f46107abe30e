"""Runs as child processes: at most one in each place, stopped together and in good order."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fastvid.sweep.grid import SweepRun
from fastvid.train.signals import StopSignals

START = "=== started"  # begins what one attempt prints to the console file
_LOOK = 0.05  # seconds between looks at the children
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded before any fork


@dataclass(frozen=True)
class RunProcess:
    """A process that makes a run, or goes on with it.

    Attributes:
        run: the run.
        command: what to run.
        console: file that its output is appended to.
    """

    run: SweepRun
    command: list[str]
    console: Path


def run_all(
    processes: Iterable[RunProcess],
    places: Sequence[str | None],
    done: Callable[[RunProcess, int, float], None],
    meanwhile: Callable[[], None],
    signals: "ForwardingSignals",
) -> None:
    """Run processes in order, as many at a time as there are places.

    The children are in sessions of their own, so that Ctrl-C in a terminal reaches them once, handed on by ``signals``.
    When this process dies without a word, they get SIGTERM.

    Args:
        processes: taken as places become free.
        places: value of CUDA_VISIBLE_DEVICES for the runs in each place; None leaves it as it is.
        done: called with a process that has ended, its exit code (negative: the signal that killed it) and its seconds.
        meanwhile: called again and again while children run.
        signals: requests to stop.

    Raises:
        Stopped: after all children have ended.
    """
    waiting = iter(processes)
    free = list(places)
    running: list[tuple[RunProcess, subprocess.Popen, str | None, float]] = []
    while True:
        while free and not signals.signum and (child := next(waiting, None)) is not None:
            place = free.pop(0)
            process = _start(child, place)
            signals.processes.append(process)
            if signals.signum:  # it came while the process was started
                process.send_signal(signals.signum)
            running.append((child, process, place, time.monotonic()))
        if not running:
            break
        meanwhile()
        time.sleep(_LOOK)
        for entry in [entry for entry in running if entry[1].poll() is not None]:
            running.remove(entry)
            child, process, place, started = entry
            signals.processes.remove(process)
            free.append(place)
            done(child, process.returncode, time.monotonic() - started)
    signals.check()


def wait_until(condition: Callable[[], bool], signals: StopSignals) -> None:
    """Wait until a condition of another process holds.

    Raises:
        Stopped: a signal came first.
    """
    while not condition():
        signals.check()
        time.sleep(4 * _LOOK)


class ForwardingSignals(StopSignals):
    """Signal handler that passes requests to stop on to child processes at once, and the second SIGINT too.

    Attributes:
        processes: the children.
    """

    def __init__(self):
        self.processes: list[subprocess.Popen] = []
        super().__init__()

    def _request(self, signum: int, frame) -> None:
        for process in self.processes:
            process.send_signal(signum)
        self.signum = self.signum or signum


@contextmanager
def stop_signals() -> Iterator[ForwardingSignals]:
    """Listen for requests to stop inside the block."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield ForwardingSignals()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(child: RunProcess, place: str | None) -> subprocess.Popen:
    parent = os.getpid()

    def end_with_parent() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before it could be asked
            os._exit(1)

    child.console.parent.mkdir(parents=True, exist_ok=True)
    with child.console.open("ab") as console:
        console.write(f"{START} {datetime.now().isoformat(timespec='seconds')}\n".encode())
        console.flush()
        return subprocess.Popen(
            child.command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
            env=os.environ if place is None else {**os.environ, "CUDA_VISIBLE_DEVICES": place},
            preexec_fn=end_with_parent,
        )
