"""Training from Python does what the command does, and leaves the process as it was."""

import dataclasses
import logging
import signal

import pytest

from fastvid.command import UserError
from fastvid.projects import salt
from fastvid.projects.salt.presets import PRESETS
from fastvid.train.config import parse
from tests.train.conftest import TINY


def config(folder, **changes):
    found, _ = parse("salt", PRESETS, "demo", [*TINY, "--optim.steps", "3", "--teacher.optim.steps", "2",
                                               "--health.every", "0", "--probe.enabled", "False"])  # fmt: skip
    return dataclasses.replace(found, run=dataclasses.replace(found.run, dir=str(folder)), **changes)


def test_a_run_returns_its_records_and_leaves_the_process_as_it_was(tmp_path):
    before = logging.getLogger().handlers[:], signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run = salt.train(config(tmp_path / "run"))
    assert run.path == tmp_path / "run"
    assert [r["step"] for r in run.metrics if r.get("stage") == "salt"] == [3]
    assert run.metadata["project"] == "salt"
    assert (run.path / "report.html").exists()
    assert before == (logging.getLogger().handlers, signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


def test_a_number_out_of_range_is_named_and_nothing_is_made(tmp_path):
    wrong = config(tmp_path / "run")
    wrong = dataclasses.replace(wrong, optim=dataclasses.replace(wrong.optim, steps=-1))
    with pytest.raises(UserError, match=r"--optim\.steps"):
        salt.train(wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_begin_says_so(tmp_path):
    wrong = config(tmp_path / "run", data=dataclasses.replace(config(tmp_path).data, path=str(tmp_path / "nowhere")))
    with pytest.raises(RuntimeError, match="exit code 2"):
        salt.train(wrong)
    assert list(tmp_path.iterdir()) == []
