"""Bad samples are named, counted and recorded in a file; too many of them stop the run."""

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fastvid.command import UserError
from fastvid.video import DecodeError


@dataclass(frozen=True)
class BadSamplePolicy:
    """The limits on bad samples above which a run stops.

    Attributes:
        share: share of the files tried so far; a run stops when more than this, and more than ``files``, are bad.
        files: number of bad files that are always tolerated.
        in_a_row: number of consecutive bad files that stops the run, whatever the share.
    """

    share: float = 0.01
    files: int = 10
    in_a_row: int = 100


class TooManyBadSamples(UserError, RuntimeError):
    """Error that is raised when more samples are bad than the policy allows."""


class Quarantine:
    """Record of bad samples, shared by threads and, through a file, kept across restarts. A recorded sample is still
    tried again wherever it comes up, so what is trained on does not depend on the record.

    Args:
        path: a JSON-lines file, one ``{"key", "reason", "detail"}`` per bad sample; None keeps them in memory only.
        policy: when to stop.
        log: called with one sentence for each new bad sample.
    """

    def __init__(self, path: Path | None = None, policy: BadSamplePolicy | None = None, log=None):
        self.path, self.policy, self._log = path, policy or BadSamplePolicy(), log
        self._lock = threading.Lock()
        self._tried: set[str] = set()  # by this process, as are the bad ones among them: the policy's share
        self._found: set[str] = set()
        self.bad: dict[str, dict[str, str]] = {}
        if path is not None and path.exists():
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):  # killed while writing a line; its sample will be found bad again
                os.truncate(path, whole)
            self.bad = {record["key"]: record for record in map(json.loads, data[:whole].splitlines())}

    def count_good(self, key: str) -> None:
        """Count a sample that decoded."""
        with self._lock:
            self._tried.add(key)

    def add(self, key: str, error: DecodeError) -> None:
        """Record a bad sample.

        Raises:
            TooManyBadSamples: more of the files that this process has tried are bad than the policy allows.
        """
        record = {"key": key, "reason": error.reason, "detail": error.detail}
        with self._lock:
            if key in self._found:
                return
            self._found.add(key)
            self._tried.add(key)
            new = key not in self.bad
            self.bad.setdefault(key, record)
            if new and self.path is not None:
                _append_line(self.path, json.dumps(record))
            bad, tried = len(self._found), len(self._tried)
        if new and self._log is not None:
            self._log(f"bad sample {key}: {error}")
        if bad > self.policy.files and bad > self.policy.share * tried:
            raise TooManyBadSamples(
                f"{bad} of {tried} files are bad ({bad / tried:.1%}; allowed are {self.policy.share:.1%} and "
                f"{self.policy.files} files); {self._where()}; the last was {key}: {error}"
            )

    def add_row(self, bad: Sequence[tuple[str, DecodeError]]) -> None:
        """Record consecutive bad samples, given as (key, error) pairs.

        Raises:
            TooManyBadSamples: there are more in a row than the policy allows, or more altogether.
        """
        for length, (key, error) in enumerate(bad, start=1):
            self.add(key, error)
            if length >= self.policy.in_a_row:
                raise TooManyBadSamples(f"{length} bad samples in a row, the last is {key} ({error}); {self._where()}")

    def give_up(self, bad: Sequence[tuple[str, DecodeError]], videos: int) -> NoReturn:
        """Raise TooManyBadSamples for these consecutive bad samples: they are all of the source's ``videos``."""
        raise TooManyBadSamples(f"none of the {videos} videos can be decoded; the last is {bad[-1][0]}")

    def _where(self) -> str:
        return f"see {self.path}" if self.path is not None else "the first is " + next(iter(self.bad), "none")


def _append_line(path: Path, line: str) -> None:
    # One write of one line with O_APPEND: ranks that share the file do not mix their lines.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, (line + "\n").encode())
    finally:
        os.close(descriptor)
