"""The check of a GPU holds its promises: caps, order, what is kept and how much. .ci/run rehearses its stages."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.harness import thresholds
from fastvid import _native
from fastvid.ops._dispatch import CUDA_OPS
from tests.conformance.cases import CASES
from tests.gpu.behaviour import CHECKS
from tests.gpu.calls import CALLS
from tests.gpu.misbehaviour import behave, nothing
from tests.waiting import wait_for
from tools.gpu import build, ops, outcomes, sanitizer, steps, train
from tools.gpu.__main__ import install
from tools.gpu.check import FAILED, KILLED, NOT_RUN, PASSED, Check
from tools.gpu.plan import NAMES, STAGES, SUMMARY, TUNE, Stage
from tools.gpu.record import Record, Task
from tools.gpu.runner import Ended, run
from tools.gpu.scale import CARD, REHEARSAL, side_by_side
from tools.gpu.smoke_checks import SmokeCheck, all_checks, missing, native_checks
from tools.gpu.summary import summary
from tools.gpu.workers import run_checks

ROOT = Path(__file__).parents[1]


def test_it_is_a_script():
    subprocess.run(["bash", "-n", str(ROOT / "tools" / "gpu_check.sh")], check=True)


# The plan


def test_the_caps_leave_time_for_the_rest():
    caps = sum(stage.cap or 0 for stage in STAGES)
    assert caps + SUMMARY < 600
    assert caps + SUMMARY - STAGES[NAMES.index("train")].cap + TUNE < 600
    assert all(stage.why for stage in STAGES)


def test_every_number_of_the_steps_has_a_target_on_every_device():
    from benchmarks.training.vjepa2_step import NAME as VJEPA2  # and transformers with it

    table = thresholds.read(thresholds.PATH.read_text())
    for name in [benchmark for _, benchmark in steps.SALT] + [VJEPA2, "SALT step, recommended, peak memory"]:
        for cls in ("cpu", "h100", "h200", "gpu"):
            assert thresholds.lookup(table, name, cls)


def test_what_is_measured_first_is_there(capfd):
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "--device", "cuda", *ops.FILES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    names = [line for line in done.stdout.splitlines() if "::" in line]
    for part in ops.WORTH:
        assert any(part in name for name in names), part
    assert ops.WORTH[0] in ops.by_worth(names)[0]
    assert sorted(ops.by_worth(names)) == sorted(names)


@pytest.fixture
def card(monkeypatch):
    """What says which kernels there are says so of an H100, with a core built for it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(_native, "HAS_CUDA_KERNELS", True)
    monkeypatch.setattr(_native, "CORE", object())
    monkeypatch.setattr(_native, "BUILD_INFO", {"cuda_archs": "90-real"})


def test_the_smoke_test_has_every_op_in_every_dtype_from_every_kernel(card):
    checks = set(all_checks(CARD))
    for name in CASES:
        for dtype in ("float32", "bfloat16", "float16"):
            for backend in ("triton", *(["native"] if name.split()[0] in CUDA_OPS else [])):
                wanted = SmokeCheck("against float64", name, dtype, backend, False)
                assert (wanted in checks) == (" far" not in name), wanted
    assert {(check.name, check.what) for check in checks if check.what in CHECKS} == {
        (c, w) for c in CALLS for w in CHECKS
    }
    assert {check.dtype for check in checks if check.what == "compiled step"} == {"float32", "bfloat16", "float16"}


def test_without_native_kernels_the_smoke_test_is_of_triton_alone(card, monkeypatch):
    monkeypatch.setattr(_native, "CORE", None)
    monkeypatch.setattr(_native, "MISSING_REASON", "its build failed")
    assert missing("cuda") == {"native": "its build failed"}
    names = [str(check) for check in all_checks(CARD)]
    assert names
    assert not any("native" in name or "in CUDA" in name for name in names)


def test_the_sanitizer_gets_the_cuda_kernels_of_every_op_that_has_one(card):
    names = [str(check) for check in native_checks(CARD)]
    for part in ("foveated_glimpse in CUDA", "multiblock_mask in CUDA", "foveated_glimpse float frames, bfloat16"):
        assert any(part in name for name in names), part
    assert any(name.startswith("salt, float32, native: masks") for name in names)
    assert not any("triton" in name.lower() for name in names)
    sources = "".join(path.read_text() for path in (ROOT / "csrc").glob("*_cuda.cu"))
    command = sanitizer.prefix("compute-sanitizer", "racecheck")
    watched = [argument.partition("=")[2] for argument in command if argument.startswith("kernel_substring=")]
    kernels = [line for line in sources.splitlines() if line.startswith("__global__")]
    assert all(any(name in kernel for name in watched) for kernel in kernels)


# One stage


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_stage_is_killed_at_its_cap(tmp_path):
    ended = run([sys.executable, "-c", "import time; time.sleep(1000)"], 0.2, tmp_path / "log", {})
    assert ended.killed
    assert ended.code == -signal.SIGTERM


def test_nothing_that_a_stage_started_is_left(tmp_path):
    """Not what ignores SIGTERM, nor what went into a session of its own and was left by its parent."""
    program = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(1000)']\n"
        "far = subprocess.Popen(sleep, start_new_session=True)\n"
        "open('pids.part', 'w').write(f'{os.getpid()} {far.pid}')\n"
        "os.rename('pids.part', 'pids')\n"
        "time.sleep(1000)\n"
    )

    class Enough(Exception):
        pass

    def stop_when_started():
        if (tmp_path / "pids").exists():
            raise Enough

    here = {"PWD": str(tmp_path)}
    with pytest.raises(Enough):
        run(
            ["env", "-C", str(tmp_path), sys.executable, "-c", program],
            600,
            tmp_path / "log",
            here,
            stop_when_started,
            0.1,
        )
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    wait_for(lambda: not any(map(alive, pids)))


def test_a_record_survives_what_a_part_raises(tmp_path):
    record = Record(tmp_path / "stage.json")
    with record.part("good"):
        record.value("number", 1)
    with record.part("bad"):
        raise RuntimeError("two\nlines")
    found = json.loads(record.path.read_text())
    assert found["failures"] == ["bad: RuntimeError: two lines"]
    assert found["values"]["number"] == 1
    assert found["running"] == []


# All stages

FAKES = {
    "passes": 'write(values={"number": 1})',
    "fails": 'write(failures=["one is wrong"]); sys.exit(1)',
    "crashes": "raise SystemError('no record of it')",
    "hangs": "time.sleep(1000)",
    "absent": 'write(values={"not run": "something is missing"})',
}


@pytest.fixture
def fakes(tmp_path):
    """A check of stages that do next to nothing."""
    for name, text in FAKES.items():
        (tmp_path / f"fake_{name}.py").write_text(
            "import json, sys, time\n"
            "path = sys.argv[sys.argv.index('--record') + 1]\n"
            "def write(**found):\n"
            "    with open(path, 'w') as file:\n"
            "        json.dump({'values': {}, 'rows': [], 'failures': [], 'running': [], **found}, file)\n"
            f"{text}\n"
        )

    def make(*names: str, cap: float = 600.0, **options) -> Check:
        stages = [Stage(name, f"fake_{name}", 1.0 if name == "hangs" else cap, "") for name in names]
        environment = {"PYTHONPATH": str(tmp_path)}
        return Check(tmp_path / "results", tmp_path / "work", environment=environment, stages=stages, **options)

    return make


def test_what_fails_hangs_or_crashes_stops_nothing_after_it(fakes, capsys):
    check = fakes("fails", "hangs", "crashes", "absent", "passes", first="fails")
    check.run()
    assert [check.done[name].ended for name in FAKES] == [PASSED, FAILED, FAILED, KILLED, NOT_RUN]
    assert check.failed
    page = (check.results / "summary.txt").read_text()
    assert "fails: one is wrong" in page
    assert "crashes: ended with 1: SystemError: no record of it" in page
    assert "something is missing" in page
    assert capsys.readouterr().out.count("\n") == 5


def test_a_killed_stage_keeps_what_it_had(fakes, monkeypatch):
    def killed(command, cap, log, environment, tick):
        record = Record(Path(command[command.index("--record") + 1]), values={"number": 2})
        record.running = ["hangs", "the third"]
        record.save()
        tick()
        return Ended(None, cap, True)

    monkeypatch.setattr("tools.gpu.check.run", killed)
    check = fakes("hangs", first="hangs")
    check.run()
    found = check.done["hangs"].found
    assert check.done["hangs"].ended == KILLED
    assert found["values"] == {"number": 2}
    assert found["failures"] == ["the third: running when the time was up"]


def test_from_a_stage_on_keeps_the_results_of_those_before(fakes):
    fakes("passes", "fails", first="passes").run()
    again = fakes("passes", "fails", "absent", first="fails")
    again.run()
    stages = json.loads((again.results / "check.json").read_text())["stages"]
    assert [(stage["stage"], stage["ended"]) for stage in stages] == [
        ("passes", PASSED), ("fails", FAILED), ("absent", NOT_RUN)
    ]  # fmt: skip
    assert stages[0]["found"]["values"] == {"number": 1}


def test_where_no_time_is_left_no_stage_begins(fakes):
    check = fakes("passes", first="passes", minutes=10, spent=600 - SUMMARY)
    check.run()
    assert check.done["passes"].why == "no time was left"


def row(number: int, met: bool = True) -> dict:
    return {
        "benchmark": f"some_op with quite a long name, size {number}",
        "part": "forward",
        "least_bytes": 10**9,
        "ms": {"fastvid": {"median": 1.0, "how": "graph"}},
        "metrics": {"us": 1000.0, "share of copy": 0.4, "GB/s": 1000.0, "x another": 2.0, "launches": 1},
        "peak_bytes": {"fastvid": 1},
        "launches": {"fastvid": 1},
        "timers_disagree": {},
        "floors": [
            {"metric": "share of copy", "value": 0.85, "sign": 1, "source": "target: a test", "met": met},
            {"metric": "x another", "value": 1.5, "sign": 1, "source": "target: a test", "met": True},
        ],
    }


def everything(rows: list[dict], failures: list[str]) -> dict:
    device = {"name": "NVIDIA H100", "torch": "2.11", "copy_gb_per_s": 3000.0, "datasheet_gb_per_s": 3350}
    found = {"values": {"device": device}, "rows": rows, "failures": failures, "running": []}
    stage = {"stage": "facts", "ended": "passed", "why": "", "seconds": 1.0, "cap": 2.0, "found": found}
    return {"date": "2026-11-27", "commit": "0" * 40, "rehearsal": False, "stages": [stage]}


def test_the_summary_has_every_number_beside_its_target():
    page = summary(everything([row(0), row(1, met=False)], ["something broke"]))
    assert "met    some_op with quite a long name, size 0, forward: 2x another (>= 1.5x)" in page
    assert (
        "MISSED some_op with quite a long name, size 1, forward: 40 % of copy (>= 85 %); 1 GB take 400 us at the "
        "speed of a copy, and it took 1e+03 us, 1 launches" in page
    )
    assert page.index("MISSED") < page.index("met    ")
    assert "facts: something broke" in page


def test_the_summary_is_one_page_whatever_happened():
    page = summary(
        everything([row(n, met=False) for n in range(300)], [f"failure {n} " + "x" * 200 for n in range(300)])
    )
    assert len(page) <= 12_000
    assert page.count("MISSED") > 10
    assert page.count("failure") > 10
    assert "more lines: check.json" in page


def test_the_folder_holds_few_small_files_and_a_result_to_commit(fakes, tmp_path):
    check = fakes("passes", first="passes")
    check.run()
    (check.work / "logs" / "huge.log").write_bytes(os.urandom(3 << 20))
    device = {"slug": "some-card", "load_before": 0.1, "cls": "gpu", "kind": "cuda", "name": "Some Card"}
    check.done["passes"].found |= {"rows": [row(0)], "values": {"device": device}}
    for name in ("launches.json", "runs.tar.gz"):  # what stages write
        (check.results / name).write_text("")
    from tools.gpu import files

    files.write(check)
    names = {path.name for path in check.results.iterdir()}
    assert names == {"check.json", "summary.txt", "some-card.json", "logs.tar.gz", "launches.json", "runs.tar.gz"}
    assert all(path.stat().st_size < 16 << 20 for path in check.results.iterdir())
    with tarfile.open(check.results / "logs.tar.gz") as archive:
        assert max(member.size for member in archive) <= 1 << 20
    result = json.loads((check.results / "some-card.json").read_text())
    assert result["device"]["name"] == "Some Card"
    assert result["rows"][0]["metrics"]["x another"] == 2.0


# Single stages


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
            rows.write_text(json.dumps({"device": {"slug": "a"}, "rows": [row(0)]}) + '\n{"device": {"sl')
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
    assert task.record.rows == [row(0)]
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
    environment = {**os.environ, "FASTVID_OUTCOMES": str(path), "PYTHONPATH": str(ROOT)}
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
