"""A short sweep of the real recipe."""

import csv
import json
import subprocess
import sys

import pytest

from tests.projects.vjepa2.test_run import SMALL


@pytest.mark.slow
def test_a_short_sweep_compares_real_runs_and_shares_their_features(environment, tmp_path):
    grid = ["--approach", "head,pooler+lora", "--videos-per-class", "5", "--seed", "0,1"]
    command = [sys.executable, "-m", "fastvid.sweep", "vjepa2", "--out", str(tmp_path / "out"), *grid, *SMALL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "experiments.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["approach"], row["num_train_videos"]) for row in rows] == [("head", "20")] * 2 + [
        ("pooler+lora", "20")
    ] * 2
    assert [row["trainable_params"] for row in rows] == ["260"] * 2 + ["226820"] * 2
    results = [json.loads(path.read_text()) for path in sorted((tmp_path / "out" / "runs").glob("*/result.json"))]
    # One frozen model and one test set for all; seeds choose other training videos and other first weights.
    assert len({json.dumps(sorted(r["test"]["keys"])) for r in results}) == 1
    assert len({json.dumps(r["curves"]["train_loss"]) for r in results}) == 4
    # Of the pooler's output for "head", of the encoder's for the other: each made once, for the whole training part.
    features = sorted((tmp_path / "out" / "features").glob("train-*/*.safetensors"))
    assert len(features) == 2
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "4 of 4 runs have finished" in page
    assert "pooler+lora" in page
