"""Sweeps as processes: what is run, what goes on, what is refused."""

import csv
import json
import os
import signal

import pytest

from fastvid.command import UserError
from fastvid.sweep import options as sweep_options
from fastvid.sweep.__main__ import main
from fastvid.sweep.grid import combinations, run_name
from fastvid.sweep.manifest import runs_of
from fastvid.sweep.options import parse_gpus
from fastvid.sweep.project_options import ProjectOptions
from tests.sweep.conftest import RECIPE, in_background, starts
from tests.waiting import HANG, wait_for

SMALL = ("--approach", "head,lora", "--videos-per-class", "50", "--seed", "0,1", "--gpus", "0")
ONE_SEED = ("--approach", "head,lora", "--videos-per-class", "50", "--seed", "0", "--gpus", "0")
NAMES = ["head-50videos-seed0", "head-50videos-seed1", "lora-50videos-seed0", "lora-50videos-seed1"]


def rows(out):
    with (out / "experiments.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_grid_is_every_combination_with_seeds_slowest():
    axes = {"--approach": ["lora", "head"], "--data.videos-per-class": ["all", "50"], "--run.seed": ["1", "0"]}
    options = ProjectOptions("vjepa2")
    names = [run_name(values, options) for values in combinations(axes, options)]
    assert len(set(names)) == len(names) == 8
    assert names[:4] == [
        "lora-50videos-seed0", "head-50videos-seed0", "lora-allvideos-seed0", "head-allvideos-seed0",
    ]  # fmt: skip


def test_every_cell_is_run_once_with_its_options(sweep, tmp_path):
    code, printed = sweep(*SMALL, "--optim.lr", "0.001", "--data.path=/videos/ucf")
    out = tmp_path / "s"
    assert code == 0, printed.err
    assert [row["run"] for row in rows(out)] == NAMES
    for name, begun in starts(out).items():
        (start,) = begun
        given = dict(zip(start["arguments"][::2], start["arguments"][1::2], strict=True))
        assert given == {
            "--approach": name.split("-")[0], "--data.videos-per-class": "50", "--run.seed": name[-1],
            "--run.dir": str(out / "runs" / name), "--features.dir": str(out / "features"), "--optim.lr": "0.001",
            "--data.path": "/videos/ucf",
        }  # fmt: skip
        assert start["gpus"] == ""
    assert printed.out.count("test ") == 4
    assert "[4/4] lora, 50 videos a class, seed 1: test " in printed.out
    assert [path.name.split("_")[0] for path in (out / "tensorboard").iterdir()] == ["ucf"] * 4
    manifest = json.loads((out / "sweep.json").read_text())
    assert manifest["options"] == {"--optim.lr": ["0.001"], "--data.path": ["/videos/ucf"]}


def test_the_same_command_again_does_nothing_and_a_larger_grid_only_what_is_new(sweep, tmp_path):
    out = tmp_path / "s"
    assert sweep(*SMALL, page=True)[0] == 0
    files = {p: p.stat().st_mtime_ns for folder in ("json", "tensorboard") for p in (out / folder).rglob("*")}
    table, page = (out / "experiments.csv").read_text(), (out / "compare.html").read_text()
    code, printed = sweep(*SMALL, page=True)
    assert code == 0
    assert "4 of 4 runs are finished already" in printed.out
    assert {p: p.stat().st_mtime_ns for folder in ("json", "tensorboard") for p in (out / folder).rglob("*")} == files
    assert (out / "experiments.csv").read_text() == table
    assert (out / "compare.html").read_text().split("<h2>Sweep")[0] == page.split("<h2>Sweep")[0]
    assert sweep("--approach", "head", "--videos-per-class", "20,all", "--seed", "0", "--gpus", "0")[0] == 0
    assert [len(begun) for begun in starts(out).values()] == [1] * 6
    assert [row["run"] for row in rows(out)] == ["head-20videos-seed0", *NAMES[:2], "head-allvideos-seed0", *NAMES[2:]]
    assert rows(out)[3]["num_videos_per_class"] == ""


def test_a_killed_sweep_loses_nothing_and_doubles_nothing(tmp_path, sweep):
    out = tmp_path / "s"
    first = in_background(out, *SMALL, FAKE_SECONDS="0.3")
    second = out / "runs" / "lora-50videos-seed0"  # seeds change slowest
    wait_for(lambda: (second / "metrics.jsonl").exists())
    first.kill()
    first.communicate()
    code, printed = sweep(*SMALL)
    assert code == 0, printed.err
    assert {name: len(begun) for name, begun in starts(out).items()} == {
        name: 1 + (name == "lora-50videos-seed0") for name in NAMES
    }
    assert starts(out)["lora-50videos-seed0"][1]["arguments"] == ["--resume", str(second)]
    assert [json.loads(line)["step"] for line in (second / "metrics.jsonl").read_text().splitlines()] == [
        5,
        10,
        15,
        20,
        25,
    ]
    assert [row["run"] for row in rows(out)] == NAMES
    assert len(list((out / "json").iterdir())) == len(list((out / "tensorboard").iterdir())) == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on_and_the_run_saves(tmp_path, number):
    out = tmp_path / "s"
    process = in_background(out, *SMALL, FAKE_SECONDS="0.3")
    wait_for(lambda: (out / "runs" / NAMES[0] / "metrics.jsonl").exists())
    process.send_signal(number)
    _, err = process.communicate(timeout=HANG)
    assert process.returncode == 128 + number, err
    assert "the same command goes on" in err
    status = json.loads((out / "runs" / NAMES[0] / "status.json").read_text())
    assert (status["state"], status["signal"]) == ("stopped", str(int(number)))
    assert list(starts(out)) == [NAMES[0]]
    assert json.loads((out / "sweep.json").read_text())["failed"] == {}


def test_two_sweeps_cannot_share_a_folder(tmp_path, sweep):
    out = tmp_path / "s"
    first = in_background(out, *SMALL, FAKE_SECONDS="0.5")
    wait_for(lambda: (out / "runs" / NAMES[0] / "metrics.jsonl").exists())
    code, printed = sweep(*SMALL)
    assert code == 2
    assert f"{out} is in use by process {first.pid}" in printed.err
    first.terminate()
    first.communicate()


def test_a_failed_run_is_named_and_the_others_go_on(sweep, tmp_path, monkeypatch):
    out = tmp_path / "s"
    monkeypatch.setenv("FAKE_FAIL", NAMES[1])
    code, printed = sweep(*SMALL, page=True)
    assert code == 1
    assert "head, 50 videos a class, seed 1: failed with exit code 2: a class with one video" in printed.out
    assert f"1 of 4 runs failed: {NAMES[1]} (a class with one video)" in printed.err
    assert [row["run"] for row in rows(out)] == [NAMES[0], *NAMES[2:]]
    page = (out / "compare.html").read_text()
    assert "3 of 4 runs have finished" in page
    assert "failed with exit code 2: a class with one video" in page
    monkeypatch.delenv("FAKE_FAIL")
    assert sweep(*SMALL, page=True)[0] == 0  # the cause is gone
    assert [row["run"] for row in rows(out)] == NAMES
    assert "Runs without a result" not in (out / "compare.html").read_text()


def test_runs_that_fail_for_one_reason_stand_together(sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_FAIL", ",".join(NAMES[:2]))
    code, printed = sweep(*SMALL)
    assert code == 1
    assert printed.err.endswith(f"2 of 4 runs failed: {NAMES[0]}, {NAMES[1]} (a class with one video)\n")
    failed = json.loads((tmp_path / "s" / "sweep.json").read_text())["failed"]
    assert failed == {name: {"code": 2, "error": "a class with one video"} for name in NAMES[:2]}


def test_a_value_that_the_option_does_not_take_is_named(sweep):
    code, printed = sweep(*ONE_SEED, "--optim.lr", "fast")
    assert code == 2
    assert printed.err == "--optim.lr does not take 'fast': see --help for what it takes\n"


def test_a_run_that_is_killed_is_a_failure_that_the_next_start_mends(tmp_path, sweep):
    out = tmp_path / "s"
    process = in_background(out, *ONE_SEED, FAKE_SECONDS="0.2")
    status = out / "runs" / NAMES[0] / "status.json"
    wait_for(lambda: (out / "runs" / NAMES[0] / "metrics.jsonl").exists())
    os.kill(json.loads(status.read_text())["pid"], signal.SIGKILL)
    printed, _ = process.communicate(timeout=HANG)
    assert process.returncode == 1
    assert "failed with exit code -9: killed by SIGKILL" in printed
    assert sweep(*ONE_SEED)[0] == 0
    assert [row["run"] for row in rows(out)] == NAMES[::2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--approach", "head,loar"), "--approach does not take 'loar': choose one of head, pooler, lora,"),
        (("--approach", "head,,lora"), "give a list such as a,b without gaps"),
        (("--videos-per-class", "50,many"), "--videos-per-class does not take 'many'"),
        (("--videos-per-class", "0"), "--data.videos-per-class must be at least 1; got 0"),
        (("--seed", "0,1,00"), "--seed: 00 is there twice"),
        (("--seed", "-1"), "--run.seed must be at least 0; got -1"),
        (("--gpus", "some"), "--gpus some: give auto, how many, or their numbers by comma"),
        (("--gpus", "99"), "--gpus 99: this machine shows"),
        (("--run.seed", "3", "--seed", "4"), "--seed is given twice: as --run.seed too"),
        (("--run.dir", "x"), "--run.dir is not passed on to the runs"),
        (("--resume", "x"), "--resume is not passed on to the runs"),
        (("--seed", "0", "1"), "'1' is not an option: lists go by comma"),
        (("--optim.lr", "1", "--optim.lr=2"), "--optim.lr is given twice"),
        (("--search", "rank,depth"), "give some of rank,alpha,dropout,lr, each once"),
        (("--search", "lr", "--seed", "0,1"), "--search needs a single --seed"),
        (("--search", "rank", "--approach", "head"), "head has no adapters"),
        (("--search", "lr", "--optim.lr", "1"), "--optim.lr is what --search lr looks for"),
    ],
)
def test_wrong_options_are_one_sentence_before_anything_is_run(sweep, tmp_path, options, words):
    code, printed = sweep(*options)
    assert code == 2
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("search", [(), ("--search", "lr")])
def test_what_the_runs_would_refuse_is_refused_before_anything_is_made(sweep, tmp_path, monkeypatch, search):
    pytest.importorskip("optuna")
    monkeypatch.setenv("FAKE_REFUSE", "too many videos")
    amount = "50" if search else "20,all,50,30"
    code, printed = sweep("--gpus", "0", "--seed", "0", "--videos-per-class", amount, *search)
    assert (code, printed.err) == (2, "no run is started: too many videos: 50\n")
    assert not (tmp_path / "s").exists()
    code, printed = sweep("--gpus", "0", "--no-such-option", "3", *search)
    assert code == 2
    assert "--no-such-option" in printed.err
    assert not (tmp_path / "s").exists()


def test_a_fault_of_the_sweep_keeps_its_traceback(sweep, monkeypatch):
    from fastvid.sweep.folder import SweepFolder

    monkeypatch.setattr(SweepFolder, "begin", lambda *_: [].index(3))
    with pytest.raises(ValueError, match="is not in list"):
        sweep(*ONE_SEED)


def test_a_folder_of_something_else_is_refused(sweep, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "sweep.json").write_text('{"cells": []}')
    code, printed = sweep(*ONE_SEED)
    assert code == 2
    assert "sweep.json is not a sweep's: it lacks failed, options," in printed.err


def test_other_options_for_runs_that_are_there_are_refused(sweep, tmp_path):
    assert sweep(*ONE_SEED)[0] == 0
    before = (tmp_path / "s" / "sweep.json").read_text()
    code, printed = sweep(*ONE_SEED, "--optim.lr", "0.1")
    assert code == 2
    assert "were started with no --optim.lr, now it is --optim.lr 0.1" in printed.err
    assert printed.err.count("\n") == 1
    assert (tmp_path / "s" / "sweep.json").read_text() == before
    code, printed = sweep("--search", "lr", "--gpus", "0")
    assert (code, "holds a grid" in printed.err) == (2, True)


def test_a_folder_of_before_names_were_kept_goes_on(sweep, tmp_path):
    out = tmp_path / "s"
    assert sweep(*SMALL)[0] == 0
    manifest = json.loads((out / "sweep.json").read_text())
    manifest["names"] = {}
    manifest["cells"] = [
        {"approach": approach, "videos_per_class": 50, "seed": seed} for approach in ("head", "lora") for seed in (0, 1)
    ]
    (out / "sweep.json").write_text(json.dumps(manifest))
    code, printed = sweep("--approach", "head,lora", "--videos-per-class", "50,all", "--seed", "0,1", "--gpus", "0")
    assert code == 0
    assert "4 of 8 runs are finished already" in printed.out
    assert {len(begun) for begun in starts(out).values()} == {1}
    trial = {"approach": "lora", "videos_per_class": None, "seed": 3, "trial": 7, "options": ["--lora.rank", "8"]}
    (run,) = runs_of({"cells": [trial]}, ProjectOptions("vjepa2"))
    assert run.name == "lora-allvideos-seed3-trial0007"
    assert run.values == {
        "--approach": "lora", "--data.videos-per-class": "all", "--run.seed": "3", "--lora.rank": "8"
    }  # fmt: skip


def test_gpus_are_places_for_runs_side_by_side(sweep, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert parse_gpus("auto", 0) == [None]
    assert parse_gpus("auto", 2) == parse_gpus("2", 3) == parse_gpus("0,1", 2) == ["0", "1"]
    assert parse_gpus("0", 2) == [""]
    assert parse_gpus("1,", 2) == ["1"]
    for text in ("0,2", "1,1", "3"):
        with pytest.raises(UserError, match="this machine shows 2"):
            parse_gpus(text, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert parse_gpus("auto", 2) == ["5", "7"]
    assert parse_gpus("1,", 2) == ["7"]
    monkeypatch.setattr(sweep_options, "places", lambda gpus: ["5", "7"])
    monkeypatch.setenv("FAKE_SECONDS", "0.1")
    assert sweep(*SMALL)[0] == 0
    begun = starts(tmp_path / "s")
    assert {start[0]["gpus"] for start in begun.values()} == {"5", "7"}
    # The two runs of seed 0 began at the same time, so their files would have the same name but for the seed.
    assert len({row["run"] for row in rows(tmp_path / "s")}) == len(list((tmp_path / "s" / "json").iterdir())) == 4


def test_two_runs_that_began_in_the_same_second_have_files_of_their_own(sweep, tmp_path):
    out = tmp_path / "s"
    assert sweep(*SMALL)[0] == 0
    for path in out.glob("runs/*/run.json"):
        facts = json.loads(path.read_text())
        facts["starts"][0]["time"] = "2026-03-01T12:00:00"
        path.write_text(json.dumps(facts))
    for folder in ("json", "tensorboard"):
        for path in sorted((out / folder).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    for _ in range(2):
        assert sweep(*SMALL)[0] == 0
        assert sorted(path.name for path in (out / "json").iterdir()) == [
            "head_only_metrics_50videos_16frames_260301-120000.json",
            "head_only_metrics_50videos_16frames_260301-120000_seed1.json",
            "lora_action_metrics_50videos_16frames_260301-120000.json",
            "lora_action_metrics_50videos_16frames_260301-120000_seed1.json",
        ]


def test_a_search_goes_on_after_a_kill_and_never_looks_at_the_test_videos(tmp_path, sweep, monkeypatch):
    pytest.importorskip("optuna")
    options = ("--search", "lr,rank", "--trials", "3", "--gpus", "0")
    whole = tmp_path / "whole"
    code, printed = sweep(*options, out=whole)
    assert code == 0, printed.err
    assert "test" not in printed.out
    found = json.loads((whole / "search.json").read_text())
    results = {p.parent.name: json.loads(p.read_text()) for p in whole.glob("runs/*/result.json")}
    assert [row["value"] for row in found] == sorted(
        (r["best"]["val_accuracy"] for r in results.values()), reverse=True
    )
    best = results[f"lora-100videos-seed0-trial{found[0]['trial']:04d}"]
    assert best["lora"]["rank"] == found[0]["options"]["rank"]
    assert best["optim"]["lr"] == pytest.approx(found[0]["options"]["lr"], rel=1e-4)
    killed = tmp_path / "killed"
    process = in_background(killed, *options, FAKE_SECONDS="0.2")
    wait_for(lambda: (killed / "runs" / "lora-100videos-seed0-trial0001" / "metrics.jsonl").exists())
    process.kill()
    process.communicate()
    assert sweep(*options, out=killed)[0] == 0
    assert json.loads((killed / "search.json").read_text()) == found
    assert len(rows(killed)) == 3


def test_a_search_without_optuna_says_how_to_get_it(sweep, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    code, printed = sweep("--search", "lr")
    assert (code, printed.err) == (2, "--search needs Optuna: pip install 'fastvid[optuna]', or pip install optuna\n")
    assert not (tmp_path / "s").exists()


def test_a_result_that_cannot_be_read_stops_no_run(sweep, tmp_path):
    out = tmp_path / "s"
    assert sweep(*ONE_SEED)[0] == 0
    (out / "runs" / NAMES[0] / "result.json").write_text('{"seed": 0}')
    code, printed = sweep(*SMALL)
    assert code == 1
    assert "the tables could not be written" in printed.err
    assert len(list(out.glob("runs/*/result.json"))) == 4
    (out / "runs" / NAMES[0] / "result.json").unlink()
    assert sweep(*SMALL)[0] == 0
    assert [row["run"] for row in rows(out)] == NAMES


def test_without_a_folder_the_sweep_has_one_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["vjepa2", "--approach", "head", "--videos-per-class", "50", "--seed", "0", "--gpus", "0"]
    assert main(options, command=RECIPE) == 0
    assert (tmp_path / "sweeps" / "vjepa2" / "compare.html").is_file()
