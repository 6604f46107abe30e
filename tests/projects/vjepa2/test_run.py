"""Whole runs of ``python -m fastvid.train vjepa2``, small enough for tests."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from fastvid.data import EvaluationDraws, Quarantine, eval_batches, open_parts, split_labelled
from fastvid.data.demo.files import DemoSize, cached_demo, encode_h264, write_demo
from fastvid.data.demo.render import DemoSpec, demo_frames
from fastvid.projects.load import load
from tests import preloaded
from tests.train.conftest import records

# A model and a data set on which a run takes seconds.
SMALL: list[str] = """
--demo.train 60 --demo.test 24 --demo.spec.size 32 --demo.spec.frames 8 --data.size 32 --data.frames 8
--optim.max-epochs 4 --optim.batch 8 --optim.warmup 2 --run.log-every 2 --run.checkpoint-every 5 --run.keep 2
""".split()  # noqa: SIM905 (as it would be typed)


@pytest.fixture
def vjepa2(salt):
    """Starts a run, as the fixture ``salt`` does."""

    def launch(directory, *options, resume=False, **how):
        small = [] if resume else SMALL
        return salt(directory, *small, *options, project="vjepa2", tiny=False, resume=resume, **how)

    return launch


def result(directory):
    return json.loads((directory / "result.json").read_text())


def trained(directory):
    return load_file(directory / "classifier" / "trained.safetensors")


def same_run(a, b) -> None:
    assert records(a) == records(b)
    left, right = trained(a), trained(b)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert result(a)["test"]["predicted"] == result(b)["test"]["predicted"]


@pytest.fixture(scope="module")
def finished(environment, tmp_path_factory):
    """An uninterrupted run of the default approach."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    done = preloaded.run("fastvid.train", "vjepa2", "--run.dir", str(directory), *SMALL, env=environment)
    assert done.returncode == 0, done.stderr
    return directory


def test_a_run_tests_the_best_weights_and_leaves_everything_that_is_known(finished):
    names = {p.name for p in finished.iterdir()}
    assert {"result.json", "classifier", "confusion.csv", "pictures", "report.html", "checkpoints"} <= names
    assert {p.name for p in (finished / "pictures").iterdir()} == {
        "confusion.png",
        "mistakes.png",
        "training-views.png",
    }
    found = result(finished)
    page = (finished / "report.html").read_text()
    assert f"Test accuracy <b>{100 * found['test']['accuracy']:.1f} %</b>" in page
    assert page.count("<img") == 3
    assert found["classes"] == ["circular", "helical", "linear", "parabolic"]
    assert found["videos"]["train"] + found["videos"]["val"] == 60
    assert found["videos"]["test"] == len(found["test"]["keys"]) == sum(map(sum, found["test"]["confusion"])) == 24
    right = sum(a == b for a, b in zip(found["test"]["labels"], found["test"]["predicted"], strict=True))
    assert (found["test"]["correct"], found["test"]["accuracy"]) == (right, right / 24)
    assert found["test"]["inference_ms_per_clip"] > 0
    assert found["time"]["train_s"] > 0
    assert found["memory"]["peak_rss_gb"] > 0.1
    assert len(found["curves"]["step"]) == len(found["curves"]["val_accuracy"]) >= 4
    # The best epoch is the first of those with the greatest accuracy, and its weights are the ones that were kept.
    accuracies = found["curves"]["val_accuracy"]
    best = accuracies.index(max(accuracies))
    assert found["best"]["step"] == found["curves"]["step"][best]
    assert found["best"]["val_accuracy"] == found["val"]["accuracy"] == accuracies[best]
    (kept,) = (finished / "checkpoints" / "best").iterdir()
    assert int(kept.name.rpartition("-")[2]) == found["best"]["step"]
    weights = load_file(kept / "model.safetensors")
    saved = {n.replace("model.base_model.model.", "").replace(".modules_to_save.default", "") for n in weights}
    assert "classifier.weight" in saved
    head = next(t for n, t in weights.items() if n.endswith("classifier.modules_to_save.default.weight"))
    assert torch.equal(head, trained(finished)["classifier.weight"])
    assert found["parameters"] == {"trainable": 226_820, "total": 535_708}


def test_what_was_saved_says_what_the_run_said(finished, environment, monkeypatch):
    """The classifier is put together again from its source and asked about the test videos."""
    monkeypatch.setenv("FASTVID_CACHE", environment["FASTVID_CACHE"])
    spec = DemoSpec(size=32, frames=8, texture=0.05, drift=0.2, radius=(0.14, 0.22))
    source = open_parts(cached_demo(DemoSize(train=60, test=24, spec=spec)))
    test = split_labelled(source, protocol="folders").test
    classifier = load(finished)
    said = {}
    for batch in eval_batches(test, range(24), EvaluationDraws(classifier.views), batch=5, quarantine=Quarantine()):
        said |= dict(zip(batch.keys, classifier(batch.clips).argmax(1).tolist(), strict=True))
    found = result(finished)["test"]
    assert said == dict(zip(found["keys"], found["predicted"], strict=True))


def test_killed_it_goes_on_bit_by_bit(vjepa2, finished, tmp_path):
    process = vjepa2(tmp_path / "killed", wait=False)
    while not list((tmp_path / "killed").glob("checkpoints/finetune-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "result.json").exists()
    done = vjepa2(tmp_path / "killed", resume=True)
    assert done.returncode == 0, done.stderr
    same_run(finished, tmp_path / "killed")


def test_features_in_memory_on_the_disk_and_none_train_alike(vjepa2, finished, tmp_path):
    shared = ["--features.dir", str(tmp_path / "features")]
    times = []
    for name in ("first", "second"):
        done = vjepa2(tmp_path / name, *shared)
        assert done.returncode == 0, done.stderr
        same_run(finished, tmp_path / name)
        times.append([path.stat().st_mtime_ns for path in sorted((tmp_path / "features").rglob("*.safetensors"))])
    assert times[0] == times[1]  # the second run made none
    assert len(times[0]) == 3
    done = vjepa2(tmp_path / "none", "--features.keep", "none")
    assert done.returncode == 0, done.stderr
    pairs = zip(records(finished), records(tmp_path / "none"), strict=True)
    losses = [(a["loss"], b["loss"]) for a, b in pairs if "loss" in a]
    # Views, order, dropout and weights are the same; features are not rounded to bfloat16.
    assert losses[0][0] == pytest.approx(losses[0][1], abs=0.02)


@pytest.mark.parametrize("approach", ["head", "full"])
def test_other_approaches(vjepa2, tmp_path, approach):
    options = ["--augment.randaugment", "1", "--augment.brightness", "0.3", "--augment.mixup", "0.2"]
    options += [
        "--augment.label-smoothing",
        "0.1",
        "--evaluate.clips",
        "2",
        "--evaluate.crops",
        "3",
        "--data.jitter",
        "1",
    ]
    done = vjepa2(tmp_path / "run", "--approach", approach, "--data.videos-per-class", "5", *options)
    assert done.returncode == 0, done.stderr
    found = result(tmp_path / "run")
    assert found["videos"]["train"] == 20
    assert found["parameters"]["trainable"] == (260 if approach == "head" else found["parameters"]["trainable"])
    assert found["lora"] is None
    assert load(tmp_path / "run").about.clips == 2


# All in one process: what takes time is starting one.
_RUN_ALL = """
import contextlib, io, json, sys
from fastvid.train.__main__ import main
for arguments in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            code = main(["vjepa2", *arguments])
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, said.getvalue()]))
"""


def refused(environment, *starts):
    """What runs that do not begin print to stderr."""
    process = [sys.executable, "-c", _RUN_ALL, json.dumps([[str(a) for a in (*SMALL, *start)] for start in starts])]
    done = subprocess.run(process, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert [code for code, _ in answers] == [2] * len(starts), done.stdout
    assert not any("Traceback" in said for _, said in answers)
    return [said for _, said in answers]


def last_sentence(text):
    """The error in a run's log, which is followed by the name of its report."""
    lines = [line for line in text.splitlines() if line[9:10] == "E"]
    assert len(lines) == 1, text
    return lines[0]


def test_wrong_inputs_get_one_sentence(tmp_path, environment):
    clip = encode_h264(demo_frames(0, 0, DemoSpec(size=32, frames=8)), 8)
    for name in ("one/a/1", "one/a/2", "single/a/1", "single/a/2", "single/b/1", "unlisted/1", "unlisted/2"):
        path = tmp_path / "data" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip)
    (tmp_path / "labels.csv").write_text("path,label\n1.mp4,a\n")
    data = tmp_path / "data"
    one, single, unlisted, nowhere, many, model, head, approach = refused(
        environment,
        ["--run.dir", tmp_path / "1", "--data.path", data / "one"],
        ["--run.dir", tmp_path / "2", "--data.path", data / "single"],
        ["--run.dir", tmp_path / "3", "--data.path", data / "unlisted", "--data.labels", tmp_path / "labels.csv"],
        ["--run.dir", tmp_path / "4", "--data.path", tmp_path / "nowhere"],
        ["--run.dir", tmp_path / "5", "--data.videos-per-class", "500"],
        ["--run.dir", tmp_path / "6", "--model.init", "pretrained", "--model.source", tmp_path],
        ["--run.dir", tmp_path / "7", "--model.keep-head", "True"],
        ["--run.dir", tmp_path / "8", "--approach", "everything"],
    )
    assert "at least two classes" in last_sentence(one)
    assert "'b' has one video" in last_sentence(single)
    assert "all 1 videos are of the class 'a'" in last_sentence(unlisted)
    assert "1 of 2 videos have no row, such as '2.mp4'" in unlisted
    assert "nowhere" in last_sentence(nowhere)
    assert "videos_per_class is 500" in last_sentence(many)
    assert f"no model at {str(tmp_path)!r}" in last_sentence(model)
    assert "no head to keep" in last_sentence(head)
    assert "everything" in approach
    assert "backbone-lora" in approach


def test_a_class_without_a_usable_video_is_named(tmp_path, environment, vjepa2):
    clip = encode_h264(demo_frames(0, 0, DemoSpec(size=32, frames=8)), 8)
    for part, label, i in ((part, label, i) for part in ("train", "test") for label in "abc" for i in range(4)):
        path = tmp_path / "data" / part / label / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"rubbish" if label == "c" or (label == "b" and part == "test") else clip)
    options = ["--approach", "head", "--optim.max-epochs", "1", "--data.bad-files", "99"]
    for name, keep in (("kept", "memory"), ("anew", "none")):
        done = vjepa2(tmp_path / name, "--data.path", tmp_path / "data", *options, "--features.keep", keep)
        assert done.returncode == 0, done.stderr
        log = (tmp_path / name / "log.txt").read_text()
        assert log.count("1 of 3 classes have no training video that can be used: c; see bad_samples.jsonl") == 1
        assert log.count("2 of 3 classes have no test video that can be used: b, c; see bad_samples.jsonl") == 1
    for path in (tmp_path / "data" / "train" / "b").iterdir():
        path.write_bytes(b"rubbish")
    done = vjepa2(tmp_path / "lost", "--data.path", tmp_path / "data", *options)
    assert done.returncode == 2
    assert "training needs two classes, and no training video of b, c can be used" in done.stderr


def test_a_finished_run_is_left_alone_and_one_that_goes_on_is_tested_anew(vjepa2, finished, tmp_path):
    other = shutil.copytree(finished, tmp_path / "other")
    before = result(other)
    done = vjepa2(other, resume=True)
    assert done.returncode == 0, done.stderr
    assert "finished and tested already" in done.stderr
    assert "features of" not in done.stderr
    assert result(other) == before
    done = vjepa2(other, "--optim.max-epochs", "6", "--evaluate.clips", "2", resume=True)
    assert done.returncode == 0, done.stderr
    after = result(other)
    assert after["optim"]["steps"] > before["optim"]["steps"]
    assert len(after["curves"]["step"]) > len(before["curves"]["step"])
    assert json.loads((other / "result.json.superseded").read_text()) == before
    assert (other / "classifier.superseded" / "classifier.json").is_file()
    assert after["evaluate"]["clips"] == load(other).about.clips == 2


def test_videos_packed_in_parts_train(vjepa2, tmp_path):
    """As ``fastvid.data pack --format ucf101`` writes them: a folder of shards for each part."""
    write_demo(tmp_path / "packed", DemoSize(train=24, test=8, spec=DemoSpec(size=32, frames=8)))
    options = ["--approach", "head", "--data.path", tmp_path / "packed"]
    done = vjepa2(tmp_path / "run", *options)
    assert done.returncode == 0, done.stderr
    assert "split: protocol folders, since there are folders named test, train" in done.stderr
    assert result(tmp_path / "run")["videos"]["test"] == 8


def test_a_run_does_not_go_on_with_other_frozen_weights(vjepa2, finished, tmp_path):
    other = shutil.copytree(finished, tmp_path / "other")
    facts = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps(facts | {"frozen": "0" * 64}))
    done = vjepa2(other, resume=True)
    assert done.returncode == 2
    third = shutil.copytree(finished, tmp_path / "third")
    changed = vjepa2(third, "--approach", "head", resume=True)
    assert changed.returncode == 2
    assert "trains with the approach pooler+lora; for head begin a new run" in last_sentence(changed.stderr)
    assert "frozen weights" in last_sentence(done.stderr)
    assert "not those that this run began with" in last_sentence(done.stderr)
