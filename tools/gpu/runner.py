"""One stage as processes: started in a session of its own, and killed with all that it started when its time is up."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_MARK = "FASTVID_GPU_CHECK_STAGE"  # in the environment of all that a stage starts, whatever its parent or session
_GRACE = 2.0  # seconds between asking a stage to end and ending it
_REAP = 5.0  # seconds to wait for a killed process: one that hangs in the driver may never be reaped


@dataclass(frozen=True)
class Ended:
    """The end of a process.

    Attributes:
        code: exit code, negative for a signal; None of one that was killed and has not gone.
        seconds: it took.
        killed: its time was up.
    """

    code: int | None
    seconds: float
    killed: bool


def run(
    command: Sequence[str],
    cap: float,
    log: Path,
    environment: Mapping[str, str],
    tick: Callable[[], object] = lambda: None,
    every: float = 5.0,
) -> Ended:
    """Run a command until it ends or its time is up, then end everything that it started.

    Args:
        command: the program and its arguments.
        cap: seconds.
        log: file for its output, both streams.
        environment: added to this process's own.
        tick: called every few seconds meanwhile.
        every: seconds between calls of ``tick``.
    """
    mark = uuid.uuid4().hex
    marks = " ".join(filter(None, (os.environ.get(_MARK), mark)))  # those of whoever runs this, too
    began = time.monotonic()
    killed = False
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, _MARK: marks},
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                left = began + cap - time.monotonic()
                if left <= 0:
                    killed = True
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(min(left, every))
                tick()
        finally:  # also where this process is asked to stop
            _end(process, mark)
    return Ended(process.returncode, time.monotonic() - began, killed)


def _end(process: subprocess.Popen, mark: str) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    for pid in _marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_REAP)


def _marked(mark: str) -> list[int]:
    """Return the ids of the processes that have the mark in their environment."""
    name, wanted = f"{_MARK}=".encode(), mark.encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # gone, or another user's
                entries = (entry / "environ").read_bytes().split(b"\0")
                if any(one.startswith(name) and wanted in one for one in entries):
                    found.append(int(entry.name))
    return found
