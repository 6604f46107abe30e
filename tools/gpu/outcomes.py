"""A plugin of pytest that writes each test's outcome as it comes: ``-p tools.gpu.outcomes``, FASTVID_OUTCOMES=FILE.

A CUDA error that outlives its test ends the process: what followed would fail for nothing. pytest-xdist then starts
another one; without it, who started pytest does.
"""

import json
import os
from pathlib import Path

import pytest

from tools.gpu.record import read_lines

_LOST = ("CUDA error", "AcceleratorError", "device-side assert")


class Outcomes:
    """Appends a line of JSON for each test that begins or ends."""

    def __init__(self, path: Path, config: pytest.Config):
        self.path, self.worker = path, hasattr(config, "workerinput")

    def write(self, **line: object) -> None:
        with self.path.open("a") as lines:
            lines.write(json.dumps(line) + "\n")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if not self.worker:
            self.write(id=nodeid, began=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo):
        report = yield
        if report.failed and any(sign in report.longreprtext for sign in _LOST):
            self.write(id=item.nodeid, outcome="failed", message=f"{_message(report)} (its process ended there)")
            os._exit(3)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.worker:
            return
        if report.failed:
            self.write(id=report.nodeid, outcome="failed", message=_message(report))
        elif report.skipped:
            self.write(id=report.nodeid, outcome="skipped", message=str(report.longrepr))
        elif report.when == "teardown":
            self.write(id=report.nodeid, outcome="passed")


def _message(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash is not None else report.longreprtext.strip().splitlines()[-1]


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin's hooks."""
    config.pluginmanager.register(Outcomes(Path(os.environ["FASTVID_OUTCOMES"]), config))


def read(path: Path) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Read a file of outcomes.

    Returns:
        Test -> "passed", "failed" or "skipped"; test -> message, of those that did not pass; those that began and did
        not end.
    """
    ended: dict[str, str] = {}
    messages: dict[str, str] = {}
    begun: dict[str, None] = {}
    for line in read_lines(path):
        begun[line["id"]] = None
        if line.get("outcome") == "passed":  # its end passed; what came before may have failed or been skipped
            ended.setdefault(line["id"], "passed")
        elif "outcome" in line and ended.get(line["id"]) != "failed":
            ended[line["id"]], messages[line["id"]] = line["outcome"], line["message"]
    return ended, messages, [name for name in begun if name not in ended]
