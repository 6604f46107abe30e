"""The page of a run, made from directories that no run left."""

import copy
import html
import json
import re

import pytest
from PIL import Image

from fastvid.projects.salt.report import sections as salt_sections
from fastvid.projects.vjepa2.report import sections as vjepa2_sections
from fastvid.report.__main__ import main
from fastvid.report.page import write_report

RESULT = {
    "project": "any", "approach": "lora", "model": "some/model", "seed": 3, "data": "videos",
    "classes": ["fall", "rise"], "leaks": [], "videos_per_class": None,
    "videos": {"train": 1858, "val": 182, "test": 40}, "frames": 16, "size": 64, "precision": "bfloat16",
    "optim": {"lr": 2e-4, "weight_decay": 0.015, "batch": 12, "accumulate": 1, "epochs": 2, "steps": 1804},
    "lora": None, "parameters": {"trainable": 226_820, "total": 3_535_708},
    "best": {"epoch": 1.07, "step": 540, "val_accuracy": 0.533}, "train_accuracy": None,
    "val": {"accuracy": 0.533, "low": 0.461, "high": 0.604, "correct": 97, "total": 182},
    "test": {
        "accuracy": 0.725, "low": 0.571, "high": 0.839, "correct": 29, "total": 40, "top5": None, "macro_f1": 0.711,
        "balanced_accuracy": 0.722, "nll": 0.4123, "ece": 0.0867,
        "per_class": {
            "fall": {"precision": 0.691, "recall": 0.792, "f1": 0.738, "support": 24},
            "rise": {"precision": None, "recall": 0.652, "f1": 0.684, "support": 16},
        },
        "confusion": [[19, 5], [6, 10]], "keys": [], "labels": [], "predicted": [], "inference_ms_per_clip": 3.21,
    },
    "curves": {"epoch": [1.07, 2], "step": [540, 1804], "train_loss": [0.6, 0.5], "val_accuracy": [0.533, 0.5]},
    "time": {"features_s": 30.0, "train_s": 90.0, "seconds_per_clip": 0.0123},
    "memory": {"peak_rss_gb": 1.23, "gpu_peak_gb": None}, "git": "abc1234",
}  # fmt: skip

CLOCK = {"clips_per_s": 50.0, "share_data": 0.1, "share_forward": 0.4, "share_backward": 0.4, "share_optimizer": 0.05}


@pytest.fixture
def run(tmp_path):
    """Makes a run directory and returns its page: ``run(result, config, metrics)``."""

    def make(result=RESULT, config=None, metrics=None, sections=vjepa2_sections):
        (tmp_path / "config.json").write_text(json.dumps({"data": {"path": "videos"}} | (config or {})))
        if result is not None:
            (tmp_path / "result.json").write_text(json.dumps(result))
        records = [] if metrics is None else metrics
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return write_report(tmp_path, sections).read_text()

    return make


def validated():
    """Records of a stage with three validations."""
    records = []
    for step, share in ((270, 0.31), (540, 0.533), (1804, 0.5)):
        records.append({"stage": "tune", "step": step, "loss": 1.0, "accuracy": 0.4, "clips": 12 * step, **CLOCK})
        records.append({"stage": "tune", "step": step, "val_accuracy": share, "val_loss": 1.1})
    return records


def words(page):
    """The page's text without its tags."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


def changed(**changes):
    result = copy.deepcopy(RESULT)
    for name, value in changes.items():
        part, _, key = name.rpartition("__")
        (result[part] if part else result)[key] = value
    return result


def test_the_numbers_are_those_of_the_result(run):
    said = words(run())
    for text in (
        "Test accuracy 72.5 % [57.1, 83.9] 29 of 40 videos",
        "most frequent one would be right for 60.0 %",
        "epoch 1.07 (step 540), the best of 2 validated: 53.3 % [46.1, 60.4] of 182",
        "fall 69.1 79.2 73.8 24 rise – 65.2 68.4 16 mean 72.2 71.1",
        "0.412 nats (NLL; equal probabilities for all classes have 0.693)",
        "8.7 points on average (ECE",
        "lora of some/model",
        "226,820 trainable of 3,535,708 (6.42 %)",
        "1,858 to train on, 182 to validate, 40 to test",
        "16 frames of 64 x 64 pixels, bfloat16",
        "1,804 steps of 12 clips, learning rate 0.0002, weight decay 0.015, seed 3",
        "2.0 minutes: 30.0 s for frozen features, 90.0 s of training; 0.0123 s per training clip",
        "3.21 ms per clip",
        "1.23 GB",
    ):
        assert text in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lora": {"rank": 8, "alpha": 24, "dropout": 0.2}}, "LoRA of rank 8, alpha 24, dropout 0.2"),
        ({"memory__gpu_peak_gb": 7.456}, "on the GPU 7.46 GB"),
        ({"test__top5": 0.912}, "among the five likeliest for 91.2 % of them"),
        ({"train_accuracy": 0.876}, "On training clips of the last epoch: 87.6 %"),
        ({"videos_per_class": 50}, "(50 a class)"),
        ({"optim__accumulate": 4}, "in 4 micro-batches"),
        ({"leaks": ["3 groups are on both sides"]}, "Leak: 3 groups are on both sides"),
    ],
)
def test_what_is_there_is_said_and_what_is_not_vanishes(run, change, said):
    assert said in words(run(changed(**change)))
    without = words(run())
    assert said.partition(" of ")[0] not in without
    assert "None" not in without.replace("None.", "")  # no video was bad: "None."


def test_what_was_not_measured_vanishes(run):
    said = words(run(changed(test__inference_ms_per_clip=None, test__nll=None, test__ece=None)))
    assert "inference" not in said
    assert "Calibration" not in said
    assert "nan" not in said


def test_leaks_are_red(run):
    page = run(changed(leaks=["<script>alert(1)</script> leaks"]))
    assert re.search(r"<p class='bad'><b>Leak:</b> &lt;script&gt;alert\(1\)&lt;/script&gt; leaks</p>", page)
    assert "<script" not in page


def test_names_are_shown_as_they_are(run):
    name = '<i>rise & "fall"</i> \'n'
    per_class = {name: RESULT["test"]["per_class"]["fall"]}
    page = run(changed(classes=[name, "rise"], test__per_class=per_class, model="<b>", approach="<u>"))
    assert html.escape(name) in page
    assert "<i>" not in page
    assert "<b><u></b>" not in page
    assert "&lt;u&gt;</b> of &lt;b&gt;" in page


def test_many_classes_are_folded(run):
    names = [f"class {i}" for i in range(31)]
    scores = dict.fromkeys(names, RESULT["test"]["per_class"]["fall"])
    for count, folded in ((31, 1), (30, 0)):
        few = dict(list(scores.items())[:count])
        page = run(changed(classes=names[:count], test__per_class=few))
        assert page.count(f"<summary>precision, recall and F1 of {count} classes</summary>") == folded
        assert page.count("<td>class ") == count


def test_the_best_epoch_is_marked(run):
    page = run(metrics=validated())
    assert "best: 53.3 % at step 540 (epoch 1.07)" in page
    assert page.count("cross-entropy") == 1
    assert "tune: loss" not in page  # not a second time


def test_before_the_test_there_is_the_best_so_far(run):
    said = words(run(result=None, metrics=validated()[:4]))
    assert "Not tested yet" in said
    assert "best: 53.3 % at step 540" in said
    assert "epoch 1.07" not in said
    assert "Test accuracy" not in said


def test_parts_that_a_kind_of_run_does_not_have_are_not_missed(run):
    page = run(metrics=validated())
    for absent in ("Health", "health", "What was learnt", "No probes", "Mistakes", "Pictures"):
        assert absent not in page
    page = run(result=None, config={"health": {"every": 0}, "probe": {}}, sections=salt_sections)
    for there in ("health was not checked", "No checks were made", "No probes"):
        assert there in page


def test_pictures_stand_once_and_where_they_belong(run, tmp_path):
    (tmp_path / "pictures").mkdir()
    for i, name in enumerate(("confusion", "mistakes", "training-views", "something-else")):
        Image.new("RGB", (8 + i, 8)).save(tmp_path / "pictures" / f"{name}.png")
    page = run()
    assert page.count("<img") == page.count("data:image/png") == 4
    assert len(set(re.findall(r"base64,([^']+)'", page))) == 4
    titles = re.findall(r"<h2>([^<]+)</h2>|<img alt='([^']{8})", page)
    order = [head or alt for head, alt in titles]
    expected = ["Classes", "Test vid", "Mistakes", "Wrong an", "What it took", "Pictures", "somethin", "Training"]
    assert order[:8] == expected


def test_the_command_asks_the_project_of_the_run_for_its_sections(run, tmp_path, capsys):
    assert "Test accuracy" not in run(sections=None)
    for facts, config, said in (
        ({"project": "vjepa2"}, {}, "Test accuracy"),
        ({}, {"approach": "lora"}, "Test accuracy"),  # a run of before its project was recorded
        ({"project": "salt"}, {}, "What was learnt"),
    ):
        run(config=config)
        (tmp_path / "run.json").write_text(json.dumps(facts))
        assert main([str(tmp_path)]) == 0
        assert said in (tmp_path / "report.html").read_text()
    (tmp_path / "run.json").write_text(json.dumps({"project": "of-tomorrow"}))
    assert main([str(tmp_path)]) == 2
    assert "of-tomorrow" in capsys.readouterr().err
