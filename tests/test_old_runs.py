"""Runs, caches, shards and exports of an earlier version still open, mean the same, and go on."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fastvid.cache.__main__ import main as cache
from fastvid.data import open_parts
from fastvid.data.__main__ import main as data
from fastvid.latents import LatentCache
from fastvid.predict import main as predict
from fastvid.projects.load import load
from tests import preloaded
from tests.train.conftest import records

HERE = Path(__file__).parent / "old_runs"


@pytest.fixture
def old(tmp_path):
    """A copy of everything, whose paths lead to the copy."""
    folder = tmp_path / "old"
    shutil.copytree(HERE, folder)
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text().replace("@HERE@", str(folder)))
    return folder


def resume(run, *options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = preloaded.run("fastvid.train", run.name, "--resume", str(run), *options, env=environment)
    assert done.returncode == 0, done.stderr
    return records(run)


def test_a_pretraining_run_is_resumed(old):
    before = records(old / "salt")
    after = resume(old / "salt", "--optim.steps", "8")
    assert after[: len(before)] == before
    assert [r["step"] for r in after if r.get("stage") == "salt"] == list(range(1, 9))


def test_a_pretraining_run_is_loaded(old):
    encoder = load(old / "salt").encoder
    weights = load_file(old / "salt" / "student" / "encoder.safetensors")
    state = encoder.state_dict()
    assert weights.keys() <= state.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())


@pytest.fixture
def same_weights(old):
    """The classifier stands on a tiny model that is drawn anew, and not every torch and transformers draw the same."""
    try:
        load(old / "vjepa2")
    except ValueError as error:
        if "drawn by this torch and transformers" not in str(error):
            raise
        pytest.skip("this torch and transformers draw other weights for the tiny model")


@pytest.mark.usefixtures("same_weights")
def test_a_fine_tuning_run_is_resumed(old):
    before = records(old / "vjepa2")
    after = resume(old / "vjepa2", "--optim.max-epochs", "3")
    assert len(after) > len(before)
    assert json.loads((old / "vjepa2" / "status.json").read_text())["state"] == "finished"


@pytest.mark.usefixtures("same_weights")
def test_a_fine_tuned_classifier_predicts_what_it_did(old, capsys):
    test = json.loads((old / "vjepa2" / "result.json").read_text())["test"]
    assert load(old / "vjepa2").classes == ["a", "b"]
    assert predict([str(old / "vjepa2"), *(str(old / "videos" / key) for key in test["keys"]), "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [int(np.argmax(answer["probabilities"])) for answer in answers] == test["predicted"]


def test_cached_latents_are_those_of_the_student(old, monkeypatch):
    monkeypatch.chdir(old)  # the cache's paths are relative
    found = LatentCache("latents")
    keys = [key for key, _ in found.clips()]
    assert sorted(keys) == sorted(sample.key for sample in open_parts("videos").samples)
    assert cache(["verify", "latents", "--teacher", "checkpoint:salt/student", "--data.path", "videos"]) == 0


def test_shards_are_whole_and_hold_the_videos(old, capsys):
    assert data(["check", str(old / "packed")]) == 0
    source = open_parts(old / "packed")
    videos = {
        path.relative_to(old / "videos").as_posix(): path.read_bytes() for path in (old / "videos").rglob("*.mp4")
    }
    assert {f"{sample.key.partition('/')[2]}.mp4": source.read(n) for n, sample in enumerate(source.samples)} == videos


def test_an_exported_adapter_is_the_run_s(old):
    exported = load_file(old / "adapter" / "adapter_model.safetensors")
    saved = load_file(old / "vjepa2" / "classifier" / "adapter" / "adapter_model.safetensors")
    assert exported.keys() == saved.keys()
    assert all(torch.equal(exported[n], saved[n]) for n in saved)
