"""The tuner of launches: what may win, what is written, and a rehearsal in Triton's interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from benchmarks import tune
from benchmarks.harness.timing import CALL, Timed
from benchmarks.tune import Found
from fastvid.ops import _interpreter
from fastvid.ops._launch import choose_launch, options, read

ROOT = Path(__file__).resolve().parents[1]
KERNEL = options("a_kernel", "2 bytes", [{"BLOCK": block} for block in (1, 2, 3)])
ABOUT = {"card": "NVIDIA H200", "date": "2030-01-02", "torch": "2.11", "triton": "3.6", "driver": "600"}


def timed(ms: float, spread: float = 0.0) -> Timed:
    return Timed(ms, ms - spread, ms + spread, "graph")


def computing(values):
    """A call whose result depends on the launch that is chosen."""
    return lambda: values(choose_launch(KERNEL, torch.device("cpu"))["BLOCK"])


@pytest.fixture
def clock(monkeypatch):
    """Puts times in the place of the timer's: of each launch, in the first and the second measurement."""

    def use(*measurements: list[Timed]):
        class Clock:
            def __init__(self, variants, *, warm):
                self.variants, self.left = variants, list(measurements)

            def times(self, rounds):
                now = self.left.pop(0)
                return {CALL: {name: now[int(name)] for name in self.variants}}

        monkeypatch.setattr(tune, "CpuTimer", Clock)

    return use


def test_a_launch_must_be_faster_by_the_margin_and_by_more_than_both_spread():
    default = timed(10, spread=0.2)
    assert tune.faster(timed(9.5, spread=0.2), default)
    assert not tune.faster(timed(9.8), default)  # within 3 %
    assert not tune.faster(timed(9.5, spread=0.4), default)  # it may be 9.9, the default 9.8
    assert not tune.faster(timed(9.5), timed(10, spread=0.6))


def test_the_fastest_launch_wins_if_it_is_faster_twice(clock):
    call = computing(lambda block: torch.ones(4))
    clock([timed(10), timed(8), timed(9)], [timed(10), timed(8.5), timed(9)])
    found = tune.tune(call, KERNEL, "cpu")
    assert (found.best, found.time.median, found.default.median, found.tried) == ({"BLOCK": 2}, 8.5, 10, 3)
    clock([timed(10), timed(8), timed(9)], [timed(10), timed(10), timed(9)])
    assert tune.tune(call, KERNEL, "cpu").best == {"BLOCK": 3}
    clock([timed(10), timed(10), timed(10)], [timed(10), timed(5), timed(5)])
    assert tune.tune(call, KERNEL, "cpu").kept


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: torch.tensor([1.0, 1.0, 1.0, 1.1]),
        lambda: torch.tensor([1.0, 1.0, 1.0, float("nan")]),
        lambda: torch.ones(4).new_empty(4),  # nothing was written where right results may lie from another call
    ],
)
def test_a_launch_with_other_results_is_named_and_not_timed(clock, wrong):
    clock([timed(10), timed(1), timed(9)], [timed(10), timed(1), timed(9)])
    found = tune.tune(computing(lambda block: wrong() if block == 2 else torch.ones(4)), KERNEL, "cpu")
    assert (found.best, found.tried) == ({"BLOCK": 3}, 2)
    assert found.wrong == ("a_kernel with BLOCK 2 at 2 bytes",)


def test_results_are_compared_by_the_last_places_of_the_largest_value():
    one, ulp = torch.tensor([1.0, 0.5], dtype=torch.bfloat16), 2**-8
    assert tune.same([one], [one + torch.tensor([0, ulp], dtype=torch.bfloat16)])
    assert not tune.same([one], [one + torch.tensor([0, 8 * ulp], dtype=torch.bfloat16)])
    assert not tune.same([torch.tensor([3])], [torch.tensor([4])])
    assert tune.same([torch.empty(0)], [torch.empty(0)])


def test_all_kernels_of_a_call_are_found():
    other = KERNEL._replace(kernel="another")

    def call():
        assert choose_launch(KERNEL, torch.device("cpu")) == {"BLOCK": 1}
        choose_launch(other, torch.device("cpu"))

    assert tune.launches_of(call) == [KERNEL, other]


def test_winners_are_merged_into_their_architecture_and_a_kept_default_has_no_row(tmp_path):
    won = Found(KERNEL, {"BLOCK": 2}, timed(0.0085), timed(0.01), 3)
    kept = Found(KERNEL._replace(shape="4 bytes"), {"BLOCK": 1}, timed(0.01), timed(0.01), 3)
    old = {"launch": {"BLOCK": 3}, "us": 1.0}
    table = {
        "sm_89": {"a_kernel": {"2 bytes": old}},
        "sm_90": {"a_kernel": {"2 bytes": old, "4 bytes": old}, "unreached": {"any": old}},
    }
    before = json.dumps(table)
    merged = tune.merge(table, "sm_90", [won, kept], ABOUT)
    row = {"launch": {"BLOCK": 2}, "us": 8.5, "default_us": 10.0, **ABOUT}
    assert merged == {
        "sm_89": {"a_kernel": {"2 bytes": old}},
        "sm_90": {"a_kernel": {"2 bytes": row}, "unreached": {"any": old}},
    }
    assert json.dumps(table) == before
    path = tmp_path / "launches.json"
    path.write_text(tune.text(merged))
    assert read(path) == merged
    assert len([line for line in path.read_text().splitlines() if '"launch"' in line]) == 3  # a row a line
    assert tune.text(tune.merge({}, "sm_90", [kept], ABOUT)) == "{}\n"


def test_no_kernel_is_started_that_would_end_too_late(capsys):
    assert list(tune.tune_all("cpu", seconds=0)) == []
    assert "0 seconds are over: nothing is tuned from masked_latent_loss_kernel" in capsys.readouterr().out


def test_an_unknown_kernel_is_refused(capsys, tmp_path):
    with pytest.raises(SystemExit):
        tune.main(["--out", str(tmp_path / "t.json"), "--device", "cpu", "--kernels", "gather_kernel"])
    assert "--kernels: gather_kernel is none of foveated_glimpse_frames_kernel, " in capsys.readouterr().err


@pytest.mark.skipif(_interpreter.why_not() is not None, reason=str(_interpreter.why_not()))
def test_the_whole_of_it_in_the_interpreter(tmp_path):
    out = tmp_path / "launches.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tune", "--device", "cpu", "--out", str(out), "--seconds", "300",
         "--kernels", "scale_gradient_kernel,gather_tokens_kernel"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scale_gradient, ViT-L B24                    5 of 5" in done.stdout
    assert "gather_tokens, ViT-B B32                     6 of 6" in done.stdout
    assert "of 3 launches on interpreter replace the default" in done.stdout
    assert set(read(out)) <= {"interpreter"}  # which one wins there is chance
