"""Whole runs of ``python -m fastvid.train trajectory``, small enough for tests."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fastvid.command import UserError
from fastvid.projects import trajectory
from fastvid.projects.load import load
from fastvid.projects.trajectory.batches import TokenLoader
from fastvid.projects.trajectory.config import TrajectoryConfig
from fastvid.projects.trajectory.presets import PRESETS
from fastvid.projects.trajectory.seeds import table_over_seeds
from fastvid.projects.trajectory.sweep import SWEEP
from fastvid.projects.trajectory.workers import models_of
from fastvid.report.records import RunRecords
from fastvid.train.config import parse
from tests.projects.cut_off import cut_off_and_resume
from tests.train.conftest import records

SMALL = """
--data.train 96 --data.val 48 --data.test 48 --tokens.tracker truth --model.width 32 --model.heads 2 --model.layers 1
--optim.batch 16 --optim.max-epochs 3 --optim.lr 0.003 --stop.every 1 --measure.draws 20 --measure.shares 0 0.5
--run.log-every 4 --run.checkpoint-every 5 --run.tensorboard False
""".split()  # noqa: SIM905 (as it would be typed)


def config_of(folder, *options) -> TrajectoryConfig:
    found, _ = parse("trajectory", PRESETS, "demo", [*SMALL, "--run.dir", str(folder), *options])
    return found


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of tokens that all runs share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTVID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache):
    """A finished run with all controls."""
    return trajectory.train(config_of(tmp_path_factory.mktemp("runs") / "run"))


def result(run) -> dict:
    return json.loads((run.path / "trajectory.json").read_text())


def test_a_run_leaves_what_its_users_read(run):
    names = {path.name for path in run.path.iterdir()}
    assert {
        "HEARTBEAT.txt", "PROGRESS.txt", "latest_metrics.json", "attention_metrics.json", "PARALLEL_PROGRESS.md",
        "trajectory.json", "report.html", "model", "model-attention", "model-pretrained",
    } <= names  # fmt: skip


def test_the_page_has_both_workers_the_2_x_2_and_all_controls(run):
    found = result(run)["models"]
    assert {(m["term"], m["features"]) for m in found.values() if not m["shuffled"]} >= {
        (term, features) for term in ("attention", None) for features in ("pixels", "conv")
    }
    assert {"attention", "pretrained", "label-shuffle", "other-seed"} <= found.keys()


def test_rows_that_must_not_say_anything_do_not(run):
    found = result(run)
    assert found["uniform"]["ratio"] == pytest.approx(1)
    assert found["untrained"]["attention"]["ratio_low"] < 1.5
    assert found["untrained"]["verdict"]["low"] < 0.75
    shuffled = found["models"]["label-shuffle"]
    assert shuffled["verdict"]["balanced_accuracy"] == pytest.approx(0.5, abs=0.05)
    assert shuffled["target"]["low"] < 0.25 + 0.15


def test_measures_are_there_and_within_their_ranges(run):
    found = result(run)["models"]["attention"]
    assert 0 <= found["verdict"]["low"] <= found["verdict"]["balanced_accuracy"] <= found["verdict"]["high"] <= 1
    assert found["attention"]["videos"] + found["attention"]["excluded"] == result(run)["videos"]["test"]
    assert found["null"]["ratio"] == pytest.approx(1, abs=0.5)
    early = found["early"]
    assert early["tokens_saved"] <= early["tokens_ceiling"] + 1e-9
    assert early["above_ceiling"] == []
    assert found["deletion"]["curves"]["random"][0] == found["deletion"]["nothing"]["balanced_accuracy"]
    assert 0 < found["calibration"]["temperature"] <= 20
    assert found["rollout"]["ratio"] > 0


def test_rules_reach_what_the_data_gives_away(run):
    rules = result(run)["baselines"]
    assert rules["constant"] == 0.5
    assert rules["colour"] > 0.97  # white against red
    assert rules["one_frame"] > 0.97
    assert rules["length"] > 0.97  # 16 frames against 3
    assert rules["oracle"] > 0.97


def test_what_was_saved_says_what_was_measured(run):
    model = load(run.path)
    assert model.about.worker == "attention"
    assert model.about.classes == ["linear", "circular", "helical", "parabolic"]
    assert torch.equal(model.model.query, load(run.path / "model-attention").model.query)
    with np.load(run.path / "model-attention" / "test.npz") as arrays:
        ratios = arrays["log_ratios"]
    kept = ratios[~np.isnan(ratios)]
    measured = result(run)["models"]["attention"]["attention"]["ratio"]
    assert measured == pytest.approx(math.exp(kept.mean()))


@pytest.mark.parametrize("batch", [9, 31])
def test_a_run_that_is_killed_goes_on_bit_for_bit(run, tmp_path, monkeypatch, batch):
    """It is cut off in the middle of one stage or another, with nothing saved but what the disk has."""
    folder = tmp_path / "run"
    cut_off_and_resume("trajectory", config_of(folder), TokenLoader, batch, monkeypatch)
    assert records(folder) == records(run.path)
    for name in ("model", "model-pretrained"):
        left, right = (load_file(path / name / "model.safetensors") for path in (folder, run.path))
        assert all(torch.equal(left[key], right[key]) for key in left)
    ours, theirs = (json.loads((path / "trajectory.json").read_text()) for path in (folder, run.path))
    assert {**ours, "token_seconds": 0} == {**theirs, "token_seconds": 0}


def test_workers_that_are_asked_for(tmp_path):
    run = trajectory.train(config_of(tmp_path / "run", "--workers", "duration,contrastive", "--controls", "False"))
    assert list(result(run)["models"]) == ["duration", "contrastive"]
    assert load(run.path).about.worker == "duration"


def test_the_label_of_the_original_project_is_a_task(tmp_path):
    config = config_of(tmp_path / "run", "--task", "noise", "--workers", "pretrained", "--controls", "False")
    run = trajectory.train(config)
    assert result(run)["classes"] == ["many transients", "few transients"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--workers", "attention,slot"],
            "no worker 'slot'; choose from attention, pretrained, unsupervised, contrastive",
        ),
        (["--workers", ""], "name each worker once"),
        (["--workers", "attention,attention"], "name each worker once"),
        (["--pretrained", "pixels"], "both are 'pixels'"),
    ],
)
def test_a_wrong_option_is_one_sentence(tmp_path, capsys, options, said):
    with pytest.raises(SystemExit):
        config_of(tmp_path / "run", *options)
    assert said in " ".join(capsys.readouterr().err.replace("│", "").split())
    assert list(tmp_path.iterdir()) == []


def test_the_models_of_a_run():
    models = models_of("attention,pretrained", "pixels", "conv", controls=True)
    assert [(m.name, m.role) for m in models] == [
        ("attention", "worker"), ("pretrained", "worker"), ("supervised-conv", "2 x 2"),
        ("unsupervised-pixels", "2 x 2"), ("label-shuffle", "control"), ("other-seed", "control"),
    ]  # fmt: skip


def test_a_sweep_reads_the_first_worker(run):
    found = SWEEP.read(RunRecords.read(run.path))
    assert SWEEP.ranks in found.measures
    items = found.measures[SWEEP.tests].items
    assert len(items) == result(run)["videos"]["test"]
    assert sum(items.values()) / len(items) == pytest.approx(found.measures[SWEEP.tests].value)
    assert found.measures["verdicts"].value == result(run)["models"]["attention"]["verdict"]["balanced_accuracy"]
    assert {"attention ratio", "consistency"} <= found.measures.keys()


def test_the_table_over_seeds(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run.path, other)
    changed = {**result(run), "seed": 1}
    (other / "trajectory.json").write_text(json.dumps(changed))
    lines = table_over_seeds([run.path, other]).splitlines()
    assert len(lines) == 2 + len(changed["models"])
    accuracy = 100 * changed["models"]["attention"]["target"]["balanced_accuracy"]
    assert lines[2].startswith(f"| attention | {accuracy:.1f} [")
    with pytest.raises(UserError, match="each seed counts once"):
        table_over_seeds([run.path, run.path])
    (other / "trajectory.json").write_text(json.dumps({**changed, "variant": "hard"}))
    with pytest.raises(UserError, match="more than the seed: variant"):
        table_over_seeds([run.path, other])
    with pytest.raises(UserError, match="--resume"):
        table_over_seeds([tmp_path])
