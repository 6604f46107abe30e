import os
import signal

import pytest
import torch

from fastvid.train.rundir import RunDir, how_it_ended
from fastvid.train.timers import StepTimer


def test_two_processes_cannot_write_one_run(tmp_path):
    run = RunDir.create(tmp_path / "r", {})
    with pytest.raises(RuntimeError, match=r"process \d+ on "):
        RunDir.reopen(tmp_path / "r")
    run.close()
    RunDir.reopen(tmp_path / "r").close()
    with pytest.raises(FileExistsError, match="continue it with --resume"):
        RunDir.create(tmp_path / "r", {})
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        RunDir.reopen(tmp_path / "other")


def test_a_run_tells_how_it_ended(tmp_path):
    run = RunDir.create(tmp_path / "r", {})
    assert how_it_ended(run.path) == "running, before its first step"
    run.heartbeat("running", force=True, stage="a", step=7)
    assert how_it_ended(run.path) == "running, at a step 7"
    run.close()
    assert how_it_ended(run.path).startswith("died at a step 7 without a word: killed with SIGKILL")
    for state, facts, words in (
        ("stopped", {"signal": "SIGTERM"}, "stopped at a step 7 by SIGTERM"),
        ("failed", {"error": "ValueError: x"}, "failed at a step 7: ValueError: x"),
        ("finished", {}, "finished"),
    ):
        run.heartbeat(state, force=True, **facts)
        assert how_it_ended(run.path).startswith(words)
    with pytest.raises(FileNotFoundError, match="not a run directory"):
        how_it_ended(tmp_path)


def test_timers_report_shares_of_the_wall_clock(monkeypatch):
    now = 0.0
    monkeypatch.setattr("fastvid.train.timers.time.perf_counter", lambda: now)
    timer = StepTimer(torch.device("cpu"))
    with timer.part("data"):
        now += 0.3
    with timer.part("forward"):
        now += 0.1
    now += 0.1
    timer.clips = 10
    shares = {"share_data": 0.6, "share_forward": 0.2, "share_backward": 0.0, "share_optimizer": 0.0}
    assert timer.report() == {"clips_per_s": 20.0, **shares}
    assert timer.report()["clips_per_s"] == 0


def test_signals_set_a_flag_and_sighup_is_ignored():
    from fastvid.train.signals import Stopped, StopSignals

    kept = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        stop = StopSignals()
        os.kill(os.getpid(), signal.SIGHUP)
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped, match="stopped by SIGTERM") as caught:
            stop.check()
        assert caught.value.signum == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
