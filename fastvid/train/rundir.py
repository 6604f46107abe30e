"""The directory of a run: everything that is known about it, and the lock that keeps it to one process.

config.json       the resolved configuration, all that a resume needs
data.json.gz      what the data held, see fastvid.data.inventory
run.json          the project, ids of trackers, versions, the command line, how it was resumed
metrics.jsonl     the record: one JSON object a line
log.txt           what was printed, tracebacks included
status.json       heartbeat; says how the run ended
checkpoints/      see fastvid.train.checkpoint
bad_samples.jsonl videos that could not be used, and why
"""

import fcntl
import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from fastvid.files import owned, write_whole
from fastvid.report.records import read_json


class RunDir:
    """One run's directory, locked for this process until :meth:`close`.

    Args:
        path: the directory; see :meth:`create` and :meth:`reopen`.

    Raises:
        RuntimeError: another process writes to it.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._lock = owned(path / "run.lock")
        except BlockingIOError as error:
            raise RuntimeError(f"{error}: two processes cannot write one run directory") from None
        self._last_heartbeat = 0.0
        self._status: dict[str, Any] = {}

    @classmethod
    def create(cls, path: Path, config: dict[str, Any]) -> "RunDir":
        """Create the directory of a new run.

        Raises:
            FileExistsError: the directory holds a run already.
        """
        cls.refuse_used(path)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        run.write_json("config.json", config)
        return run

    @staticmethod
    def refuse_used(path: Path) -> None:
        """Raise FileExistsError where the directory holds a run already."""
        if (path / "config.json").exists():
            raise FileExistsError(f"{path} holds a run: continue it with --resume {path}, or choose another --run.dir")

    @classmethod
    def reopen(cls, path: Path) -> "RunDir":
        """Open the directory of an existing run, to continue it.

        Raises:
            FileNotFoundError: there is none.
        """
        if not (path / "config.json").exists():
            raise FileNotFoundError(f"nothing to resume in {path}: it has no config.json")
        run = cls(path)
        before = run.read_json("status.json", {})
        run._status = {name: before[name] for name in ("stage", "step") if name in before}
        return run

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file of the run, complete or not at all."""
        write_json(self.path / name, content)

    def read_json(self, name: str, default: Any = None) -> Any:
        """Read a JSON file of the run, or return ``default`` if it does not exist."""
        return read_json(self.path / name, default)

    def metadata(self) -> dict[str, Any]:
        """Return what :meth:`record` wrote, at this start or an earlier one."""
        written: dict[str, Any] = self.read_json("run.json", {})
        return written

    def record(self, **metadata: Any) -> None:
        """Add to ``run.json``, or replace what is there under these names."""
        self.write_json("run.json", {**self.metadata(), **metadata})

    def set_aside(self, name: str) -> None:
        """Rename a result of an earlier training, if it exists."""
        path = self.path / name
        if path.exists():
            aside = path.with_name(f"{path.name}.superseded")
            if aside.is_dir():
                shutil.rmtree(aside)  # of the time before; a folder is not renamed over another
            path.rename(aside)

    def heartbeat(self, state: str, *, force: bool = False, **values: Any) -> None:
        """Update ``status.json``, at most every five seconds unless forced."""
        now = time.time()
        self._status.update(values)
        if force or now - self._last_heartbeat > 5:
            self._last_heartbeat = now
            who = {"pid": os.getpid(), "host": socket.gethostname(), "time": now}
            self.write_json("status.json", {"state": state, **who, **self._status})

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader, or a kill, sees the old file or the new one."""
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode(), sync=False)


def how_it_ended(path: Path) -> str:
    """Describe in one sentence how a run ended, or that it runs.

    Raises:
        FileNotFoundError: ``path`` is not a run directory.
    """
    if not (path / "config.json").exists():
        raise FileNotFoundError(f"{path} is not a run directory: it has no config.json")
    status = read_json(path / "status.json", {})
    where = f"at {status['stage']} step {status['step']}" if "step" in status else "before its first step"
    if is_locked(path):
        return f"running, {where}"
    if status.get("state") == "running" or not status:
        return f"died {where} without a word: killed with SIGKILL, out of memory, or the machine went down"
    if status["state"] == "failed":
        return f"failed {where}: {status.get('error', 'see log.txt')}"
    if status["state"] == "stopped":
        return f"stopped {where} by {status.get('signal', 'a signal')}; continue it with --resume {path}"
    return "finished"


def is_locked(path: Path) -> bool:
    """Return whether a process writes to the run."""
    try:
        with (path / "run.lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except FileNotFoundError:
        return False
    except OSError:
        return True
