"""The files that say how a run stands."""

import json

import numpy as np
import pytest

from fastvid.projects.trajectory.config import StopConfig
from fastvid.projects.trajectory.progress_files import write_attention_metrics, write_progress
from fastvid.projects.trajectory.workers import models_of
from tests.projects.trajectory.token_sets import token_set

P, T = True, False
MODELS = models_of("attention,pretrained", "pixels", "conv", controls=False)
GOOD = {"accuracy_low": 0.8, "attention_ratio_low": 1.6, "consistency_low": 0.9}


def check(stage, step, **more):
    return {
        "stage": stage, "step": step, "epochs": step / 10, "max_epochs": 4.0, "val_loss": 0.5, "target_accuracy": 0.9,
        "verdict_accuracy": 0.95, "attention_ratio": 1.8, "consistency": 0.92, **more,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path):
    def make(*records):
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return tmp_path

    return make


def test_before_the_first_validation_there_are_none(run):
    path = run({"stage": "attention", "step": 5, "loss": 1.0})
    write_progress(path, MODELS, StopConfig())
    assert sorted(p.name for p in path.iterdir()) == ["config.json", "metrics.jsonl"]


def test_a_validation_is_shown_before_it_is_in_the_record_and_only_once(run):
    path = run({"stage": "attention", "step": 10, "loss": 1.25})
    now = check("attention", 10)
    write_progress(path, MODELS, StopConfig(), now)
    latest = json.loads((path / "latest_metrics.json").read_text())
    assert latest == {
        "worker": "attention", "epoch": 1.0, "max_epochs": 4.0, "train_loss": 1.25, "val_loss": 0.5,
        "val_accuracy": 0.9, "track_accuracy": 0.95, "attention_ratio": 1.8, "consistency": 0.92,
    }  # fmt: skip
    assert (path / "HEARTBEAT.txt").read_text().startswith("Epoch 1/4\nLast update: ")
    path = run({"stage": "attention", "step": 10, "loss": 1.25}, now)
    write_progress(path, MODELS, StopConfig(), now)
    assert (path / "PROGRESS.txt").read_text().count("attention: epoch") == 1


def test_workers_beside_each_other(run):
    path = run(check("attention", 40), check("pretrained", 10, attention_ratio=None))
    write_progress(path, MODELS, StopConfig())
    rows = (path / "PARALLEL_PROGRESS.md").read_text().splitlines()
    assert "| worker | status | epoch | ratio | validation accuracy | track accuracy | consistency |" in rows
    assert "| attention | complete | 4/4 | 1.80 | 0.900 | 0.950 | 0.92 |" in rows
    assert "| pretrained | running | 1/4 | - | 0.900 | 0.950 | 0.92 |" in rows


def test_success_is_claimed_by_lower_ends_only_and_withdrawn_where_steps_are_trained_again(run):
    path = run(check("attention", 10))  # ratio 1.8 and accuracies of 0.9, but no lower ends
    write_progress(path, MODELS, StopConfig())
    assert not (path / "SUCCESS.txt").exists()
    path = run(check("attention", 10), check("attention", 20, **GOOD))
    write_progress(path, MODELS, StopConfig())
    said = (path / "SUCCESS.txt").read_text()
    assert said.startswith("attention: all conditions met at epoch 2, by the lower ends")
    assert "accuracy 0.800, ratio 1.600, consistency 0.900" in said
    assert "| attention | all conditions met | 2/4 |" in (path / "PARALLEL_PROGRESS.md").read_text()
    path = run(check("attention", 10))
    write_progress(path, MODELS, StopConfig())
    assert not (path / "SUCCESS.txt").exists()


def test_the_attention_of_each_video(tmp_path):
    tokens = token_set([[(P, 0, 1), (T, 1, 1)], [(P, 0, 1)]], 2)
    arrays = {
        "attention": np.array([0.4, 0.4, 0.2, 0.5, 0.5]), "log_ratios": np.array([np.log(2), np.nan]),
        "verdicts": np.array([1.0, 1.0, 1.0]),
    }  # fmt: skip
    write_attention_metrics(tmp_path, "attention", tokens, arrays)
    found = json.loads((tmp_path / "attention_metrics.json").read_text())
    assert found["worker"] == "attention"
    assert found["samples"][0] == {
        "sample_id": "hand/0", "num_objects": 2, "num_persistent": 1, "num_transient": 1, "accuracy": 0.5,
        "avg_persistent_attention": 0.4, "avg_transient_attention": 0.2, "attention_ratio": pytest.approx(2),
    }  # fmt: skip
    assert found["samples"][1]["attention_ratio"] is None
    assert found["samples"][1]["avg_transient_attention"] is None
