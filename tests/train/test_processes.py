"""Whole SALT runs of several processes, of which one is killed, or hangs."""

import os
import re
import signal
import subprocess

import pytest

from tests.train.conftest import records
from tests.waiting import HANG, wait_for

pytestmark = pytest.mark.slow

FSDP = ("--run.parallel", "fsdp", "--model.checkpointing", "True", "--teacher.optim.steps", "10", "--optim.steps", "20")


def torchrun(*options):
    return ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options)


def child(process, rank):
    """The process id of a rank that torchrun started."""

    def found():
        listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        ranks = {}
        for pid in listed:
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables = dict(pair.partition(b"=")[::2] for pair in file.read().split(b"\0"))
            ranks[variables.get(b"RANK", b"").decode()] = int(pid)
        return ranks.get(str(rank))

    wait_for(found)
    return found()


def reached(directory, stage, step):
    return (directory / "checkpoints" / f"{stage}-{step:08d}").exists()


def test_a_run_of_which_a_process_is_killed_goes_on_to_the_same_end(salt, tmp_path):
    """Two processes with shards, killed and restarted by torchrun, against one that is left alone."""
    one = salt(tmp_path / "one", *FSDP)
    assert one.returncode == 0, one.stderr
    two = salt(tmp_path / "two", *FSDP, launcher=torchrun("--max-restarts", "1"), wait=False)
    wait_for(lambda: reached(tmp_path / "two", "salt", 7))
    os.kill(child(two, 1), signal.SIGKILL)
    _, err = two.communicate(timeout=HANG)
    assert two.returncode == 0, err
    assert "stage salt goes on from its checkpoint at step" in err
    for a, b in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"stage", "step"}:
            assert b[name] == pytest.approx(a[name], rel=2e-3, abs=1e-5), (a["stage"], a["step"], name)


def test_a_process_that_hangs_is_named_by_the_other_and_the_run_ends(salt, tmp_path):
    run = tmp_path / "run"
    options = ("--optim.steps", "100000", "--run.hang-minutes", "0.1")
    two = salt(run, *FSDP[:-2], *options, launcher=torchrun(), wait=False)
    wait_for(lambda: reached(run, "salt", 7))
    stopped = child(two, 1)
    os.kill(stopped, signal.SIGSTOP)
    wait_for(lambda: "failed" in (run / "status.json").read_text())
    os.kill(stopped, signal.SIGKILL)  # torchrun ends it by itself, after half a minute
    _, err = two.communicate(timeout=HANG)
    assert two.returncode == 1, err
    named = rf"1 of 2 processes have waited for \S+ minutes for process 1 \(host \S+, process id {stopped}\)"
    assert re.search(named, err)
    assert f"process id {stopped}" in (run / "log.txt").read_text()
    assert f"process id {stopped}" in (run / "status.json").read_text()
