"""Tests in a process of their own, where something must be set before Python starts."""

import os
import subprocess
import sys
import xml.etree.ElementTree as xml
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).parents[2]


class Outcome(NamedTuple):
    """The names of the tests that passed, and those skipped with the reason; both empty where pytest itself died."""

    done: subprocess.CompletedProcess
    passed: set[str]
    skipped: dict[str, str]


def run_tests(
    path: Path, chosen: str, environment: Mapping[str, str], folder: Path, *options: str, seconds: float | None = None
) -> Outcome:
    """Runs the tests under a path that pytest's ``-k`` chooses, with one thread; ``folder`` is for the report.

    Raises:
        subprocess.TimeoutExpired: it took longer than ``seconds``.
    """
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", str(path), "-q", "-k", chosen, "-p", "no:cacheprovider",
            f"--junitxml={report}", *options,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )  # fmt: skip
    passed, skipped = set(), {}
    for case in xml.parse(report).getroot().iter("testcase") if report.exists() else ():
        name, skip = case.get("name") or "", case.find("skipped")
        if skip is not None:
            skipped[name] = skip.get("message") or ""
        elif case.find("failure") is None and case.find("error") is None:
            passed.add(name)
    return Outcome(done, passed, skipped)
