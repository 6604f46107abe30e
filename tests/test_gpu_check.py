"""The check of a GPU holds its promises: caps, order, what is kept and how much. .ci/run rehearses its stages."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from benchmarks.harness import thresholds
from fastvid import _native
from fastvid.ops._dispatch import CUDA_OPS
from tests.conformance.cases import CASES
from tests.gpu.behaviour import CHECKS
from tests.gpu.calls import CALLS
from tests.waiting import wait_for
from tools.gpu import ops, sanitizer, steps
from tools.gpu.check import FAILED, KILLED, NOT_RUN, PASSED, Check
from tools.gpu.plan import NAMES, STAGES, SUMMARY, TUNE, Stage
from tools.gpu.record import Record
from tools.gpu.runner import Ended, run
from tools.gpu.scale import CARD
from tools.gpu.smoke_checks import SmokeCheck, all_checks, missing, native_checks
from tools.gpu.summary import summary

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
    from benchmarks.training.fvlm_sides import JOINT_STEP, STEPS
    from benchmarks.training.vjepa2_step import NAME as VJEPA2  # and transformers with it

    table = thresholds.read(thresholds.PATH.read_text())
    salt = [*(benchmark for _, benchmark in steps.SALT), "SALT step, recommended, peak memory"]
    fvlm = [*STEPS, *(f"{step}, compiled" for step in STEPS), f"{JOINT_STEP}, peak memory", steps.CHOICES, steps.STREAM]
    for name in [*salt, VJEPA2, *fvlm]:
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
