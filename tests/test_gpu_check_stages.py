"""The stages of the check of a GPU, each by itself."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.gpu.misbehaviour import behave, nothing
from tools.gpu import build, ops, outcomes, sanitizer, train
from tools.gpu.__main__ import install
from tools.gpu.record import Record, Task
from tools.gpu.runner import Ended
from tools.gpu.scale import CARD, REHEARSAL, side_by_side
from tools.gpu.workers import run_checks

A_ROW = {"benchmark": "some_op", "part": "forward", "ms": {"fastvid": {"median": 1.0}}}


def task_of(tmp_path: Path, which=REHEARSAL) -> Task:
    for folder in ("work/logs", "results"):
        (tmp_path / folder).mkdir(parents=True)
    return Task(
        Record(tmp_path / "stage.json"), tmp_path / "results", tmp_path / "work", time.time() + 600, which, False
    )


def test_a_core_that_is_older_than_a_failed_build_is_not_measured(tmp_path, monkeypatch):
    (tmp_path / "fastvid").mkdir()
    (tmp_path / "fastvid" / "_C.old.so").write_text("")
    (tmp_path / "setup.py").write_text("import sys; sys.exit('a.cu(3): error: what is wrong')")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    with pytest.raises(RuntimeError, match=r"ended with 1: a.cu\(3\): error: what is wrong"):
        build.main(task_of(tmp_path))
    assert not list((tmp_path / "fastvid").iterdir())


def test_a_core_is_built_for_the_card_and_no_other(tmp_path, monkeypatch):
    (tmp_path / "fastvid").mkdir()
    (tmp_path / "setup.py").write_text(
        "import os, sys; sys.exit('error: ' + os.environ['FASTVID_CUDA'] + ' ' + os.environ['FASTVID_CUDA_ARCHS'])"
    )
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    with pytest.raises(RuntimeError, match="error: 1 90-real"):
        build.main(task_of(tmp_path, CARD))


def test_a_tuner_that_fails_is_a_failure(tmp_path, monkeypatch):
    def fails(command, cap, log, environment):
        assert command[1:3] == ["-m", "benchmarks.tune"]
        log.write_text("some trouble\nNo module named benchmarks.tune\n")
        return Ended(1, 0.1, False)

    monkeypatch.setattr(ops, "run", fails)
    with pytest.raises(RuntimeError, match=r"benchmarks\.tune ended with 1: No module named benchmarks\.tune"):
        ops.tune(task_of(tmp_path))


def test_after_a_benchmark_that_dies_or_is_stuck_the_others_are_measured(tmp_path, monkeypatch):
    names = [f"benchmarks/bench_a.py::test[{what}]" for what in ("dies", "stuck", "good")]

    def pretend(command, cap, log, environment, tick):
        """Runs the first benchmark that is asked for, as pytest would."""
        name = next(argument for argument in command if "::" in argument)
        outcome, rows = Path(environment["FASTVID_OUTCOMES"]), Path(command[command.index("--rows") + 1])
        with outcome.open("a") as lines:
            lines.write(json.dumps({"id": name, "began": True}) + "\n")
            if "good" in name:
                lines.write(json.dumps({"id": name, "outcome": "passed"}) + "\n")
        if "good" in name:
            rows.write_text(json.dumps({"device": {"slug": "a"}, "rows": [A_ROW]}) + '\n{"device": {"sl')
        if "stuck" in name:
            os.utime(outcome, (0, 0))
            later = time.time() + 1000
            monkeypatch.setattr(ops.time, "time", lambda: later)
        tick()
        return Ended(0 if "good" in name else -11, 1.0, False)

    monkeypatch.setattr(ops, "run", pretend)
    task = task_of(tmp_path)
    task = dataclasses.replace(task, until=task.until + 10_000)
    ops.measure(task, names)
    assert task.record.rows == [A_ROW]
    assert task.record.failures == [
        f"{names[0]}: its process died with exit code -11",
        f"{names[1]}: nothing came of it for 45 s: killed",
    ]
    assert task.record.values["measured"] == 1


def test_as_many_processes_as_the_card_has_memory_for(monkeypatch):
    for gigabytes, expected in ((24, 4), (80, 12), (2, 1)):
        card = SimpleNamespace(total_memory=gigabytes << 30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda card=card: card)
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        assert side_by_side(CARD) == expected
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert side_by_side(REHEARSAL) == 2


@pytest.mark.parametrize(
    ("passed", "code", "error"),
    [
        (3, 0, None),
        (3, 9, "found something: Invalid __global__ write of size 4 bytes at foveated_glimpse_kernel"),
        (0, 0, "ended with 0 after 0 checks"),
        (1, 1, "ended with 1 after 1 checks: ERROR SUMMARY: 0 errors"),
    ],
)
def test_what_the_sanitizer_finds(tmp_path, passed, code, error):
    """With a program in its place that prints what it would print, and runs nothing."""
    found = "Invalid __global__ write of size 4 bytes\\n=========     at foveated_glimpse_kernel"
    program = tmp_path / "compute-sanitizer"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        "path = sys.argv[sys.argv.index('--record') + 1]\n"
        "content = {'values': {'passed': {'masks': PASSED}, 'checks': 3}, 'failures': []}\n"
        "open(path, 'w').write(json.dumps(content))\n"
        f"if CODE == 9: print('========= {found}')\n"
        "print('========= ERROR SUMMARY: ' + ('1 error' if CODE == 9 else '0 errors'))\n"
        "sys.exit(CODE)\n".replace("CODE", str(code)).replace("PASSED", str(passed))
    )
    program.chmod(0o755)
    task = task_of(tmp_path)
    with pytest.raises(RuntimeError, match=error) if error else contextlib.nullcontext():
        sanitizer.watch(task, "memcheck", str(program), 60)
    assert task.record.values["memcheck"].startswith(f"{passed} of 3 checks passed")


def test_without_what_training_needs_it_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "NEEDED", ("torch", "no_such_av"))
    task = task_of(tmp_path)
    train.main(task)
    assert task.record.values == {"not run": "no_such_av is missing: give --wheels DIR"}


def test_wheels_are_installed_without_network(tmp_path):
    wheel = tmp_path / "some_thing-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_thing.py", "VALUE = 1\n")
        archive.writestr("some_thing-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-thing\nVersion: 1\n")
        archive.writestr(
            "some_thing-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("some_thing-1.dist-info/RECORD", "")
    packages = install(tmp_path, tmp_path / "packages")
    assert (packages / "some_thing.py").exists()
    with pytest.raises(SystemExit, match="no wheel"):
        install(packages, tmp_path / "others")


def test_outcomes_are_kept_up_to_the_test_that_lost_the_device(tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2\n"
        "def test_skipped(): pytest.skip('no reason')\n"
        "def test_lost(): raise RuntimeError('CUDA error: an illegal memory access was encountered')\n"
        "def test_never(): pass\n"
    )
    path = tmp_path / "outcomes.jsonl"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tools.gpu.outcomes",
        "-p",
        "no:cacheprovider",
        str(tmp_path),
    ]
    environment = {**os.environ, "FASTVID_OUTCOMES": str(path), "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stdout
    ended, messages, begun = outcomes.read(path)
    assert {name.partition("::")[2]: result for name, result in ended.items()} == {
        "test_good": "passed", "test_bad": "failed", "test_skipped": "skipped", "test_lost": "failed"
    }  # fmt: skip
    assert begun == []
    assert "illegal memory access" in messages["test_some.py::test_lost"]
    path.write_text(path.read_text() + json.dumps({"id": "test_some.py::test_never", "began": True}) + "\n")
    assert outcomes.read(path)[2] == ["test_some.py::test_never"]


def test_a_check_that_dies_or_hangs_costs_itself_alone():
    items = ["dies", "wrong", "right", "hangs", "right too"]
    found = {one.item: one.error for one in run_checks(behave, items, processes=2, limit=5, healthy=nothing)}
    assert found["right"] is found["right too"] is None
    assert found["wrong"] == "AssertionError: 1 is not 2"
    assert found["dies"] == "the process died with exit code 7"
    assert found["hangs"] == "not over after 5 s: killed"


def test_in_one_process_checks_follow_one_another():
    found = list(run_checks(behave, ["wrong", "right"], processes=0, limit=1, healthy=nothing))
    assert [one.error for one in found] == ["AssertionError: 1 is not 2", None]
