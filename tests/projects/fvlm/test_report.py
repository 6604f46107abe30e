"""The page of a run says what was measured, what of it counts, and what does not."""

import json
import re
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from fastvid.command import UserError
from fastvid.projects.fvlm.acceptance import CRITERIA, judge
from fastvid.projects.fvlm.controls import COARSE, FINE, conditions
from fastvid.projects.fvlm.evaluation import EvalBatch, Evaluator
from fastvid.projects.fvlm.pictures import Shown, write_pictures, write_video
from fastvid.projects.fvlm.report import sections
from fastvid.projects.fvlm.results import Sample, measured
from fastvid.projects.fvlm.seeds import table_over_seeds
from fastvid.projects.fvlm.sweep import SWEEP
from fastvid.report.page import write_report
from fastvid.report.records import RunRecords
from fastvid.video import probe
from tests.projects.fvlm.batches import END, batch, tiny

TASKS = ["tiles", "chain", "tiles"]
ABOUT = {
    "mode": "stream", "layout": "question-first", "query": "deep", "first_query": "text", "coarse_weight": 1.0,
    "seed": 0, "frames": 3, "clips": {"train": 8, "val": 2, "test": 2}, "legacy_ratio": 1.25,
    "stage": "fine", "given_up": [], "restart": {"step": 0, "margin": 0.02, "times": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    test = EvalBatch(batch(), [0, 1], TASKS)
    evaluate = Evaluator(lambda: [test], END, nullcontext)
    controls = conditions("stream", truth=True)
    alone = evaluate(tiny(init_seed=1), "coarse", {}, look=False)
    said = Sample("clip 0", "Read <b>it</b>", "A B", {FINE: "a b", COARSE: "b b"}, {FINE: True, COARSE: False})
    whole = measured(evaluate(tiny(), "stream", controls), alone, controls, [said], ["a", "b"], accepts=True)
    return {**ABOUT, **json.loads(json.dumps(whole))}  # as it is read from its file


def page(folder, found=None, records=()):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"data": {"path": "demo"}}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if found is not None:
        (folder / "measures.json").write_text(json.dumps(found))
    text = write_report(folder, sections).read_text()
    return re.sub(r"<(style|svg).*?</\1>", "", text, flags=re.DOTALL)


def test_the_page_has_every_condition_ratio_hit_and_answer(tmp_path, found):
    text = page(tmp_path / "run", found)
    for name in found["answers"]:
        assert f"<b>{name.replace(chr(39), '&#x27;')}</b>" in text
    ratio = found["ratios"]["chain"]["alone"]
    assert f"{ratio['ratio']:.3g} [{ratio['low']:.3g}, {ratio['high']:.3g}]" in text
    assert "1.25" in text
    hits = found["looks"][FINE]["hits"]["chain"]
    assert f"{hits['hit_rate']:.3f}" in text
    assert "Read &lt;b&gt;it&lt;/b&gt;" in text
    assert "<span class='good'>a b</span>" in text
    assert "<span class='bad'>b b</span>" in text
    assert f"of {len(CRITERIA)} met" in text
    assert "Dead gaze" not in text
    assert "was not trained" not in text


def test_a_coarse_pass_without_weight_and_a_dead_gaze_are_said_aloud(tmp_path, found):
    dead = json.loads(json.dumps(found))
    dead["looks"][FINE]["entropy"]["alarm"] = "all heads of every layer attend uniformly"
    text = page(tmp_path / "run", {**dead, "coarse_weight": 0.0, "legacy_ratio": None})
    assert "<b>Dead gaze.</b> The fine pass: all heads" in text
    assert "it was not trained, and its ratio compares" in text
    assert "not recorded" in text


def test_attempts_that_were_given_up_are_named_with_the_rule(tmp_path, found):
    rule = {"step": 350, "margin": 0.02, "times": 2}
    text = page(tmp_path / "run", {**found, "given_up": [0.123], "restart": rule, "stage": "fine-2"})
    assert "<b>1 given up</b>, with 12.3 %; the rule: a model whose fine pass is not 2 points" in text
    assert "No restart was needed" in page(tmp_path / "other", {**found, "restart": rule})


def test_without_truth_and_without_bounds_the_page_says_so(tmp_path, found):
    own = json.loads(json.dumps(found))
    own["acceptance"], own["samples"] = [], []
    for looks in own["looks"].values():
        for hits in looks["hits"].values():
            hits["hit_rate"] = None
    text = page(tmp_path / "run", own)
    assert "hits cannot be counted" in text
    assert "Acceptance" not in text


def test_before_its_end_a_run_shows_its_curves(tmp_path):
    records = [
        {
            "stage": "fine", "step": step, "loss": 2.0, "fine_loss": 1.0, "coarse_loss": 1.0, "lr": 0.1,
            "weight_decay": 0.0, "grad_norm": 1.0, "clips_per_s": 1.0, "share_data": 0.0,
            "val_accuracy_fine_tiles": 0.5,
        }
        for step in (1, 2)
    ]  # fmt: skip
    text = page(tmp_path / "run", records=records)
    assert "Learning, on validation clips" in text
    assert "Answers" not in text


def test_measures_are_judged_by_bounds_that_were_fixed_before():
    names = {criterion.condition for criterion in CRITERIA if criterion.measure == "accuracy"}
    good = {name: {task: {"accuracy": 0.1} for task in ("tiles", "chain")} for name in names}
    good[FINE] = {task: {"accuracy": 0.96} for task in ("tiles", "chain")}
    looks = {FINE: {"hits": {task: {"hit_rate": 0.95} for task in ("tiles", "chain")}}}
    assert all(row["met"] for row in judge(good, looks))
    good["parallel"]["chain"]["accuracy"] = 0.41
    assert [row["condition"] for row in judge(good, looks) if not row["met"]] == ["parallel"]
    del good["coarse alone"]
    missing = [row for row in judge(good, looks) if row["value"] is None]
    assert {row["condition"] for row in missing} == {"coarse alone"}
    assert not any(row["met"] for row in missing)


def test_the_table_over_seeds_marks_what_is_not_met(tmp_path, found):
    runs = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "measures.json").write_text(json.dumps({**found, "seed": seed}))
        runs.append(folder)
    lines = table_over_seeds(runs).splitlines()
    assert len(lines) == 2 + len(CRITERIA) + 3 * 2 + 1
    row = found["acceptance"][0]
    assert row["met"] is False
    assert lines[2] == f"| tiles: accuracy, fine | at least 0.95 | **{row['value']:.3f}** | **{row['value']:.3f}** |"
    with pytest.raises(UserError, match="each seed counts once"):
        table_over_seeds([runs[0], runs[0]])
    with pytest.raises(UserError, match="--resume comes to"):
        table_over_seeds([tmp_path])
    (runs[1] / "measures.json").write_text(json.dumps({**found, "seed": 1, "acceptance": []}))
    with pytest.raises(UserError, match="not on the demo's clips"):
        table_over_seeds(runs)


def test_a_sweep_reads_the_fine_pass(tmp_path, found):
    page(tmp_path / "run", found, [{"stage": "fine", "step": 5, "val_accuracy_fine_all": 0.75}])
    read = SWEEP.read(RunRecords.read(tmp_path / "run")).measures
    assert read[SWEEP.ranks].value == 0.75
    assert set(read[SWEEP.tests].items) == {"a", "b"}
    assert read["CE coarse / fine"].value == found["ratios"]["all"]["fair"]["ratio"]


def test_pictures_and_video_show_the_attention_that_is_given(tmp_path):
    frames = np.full((3, 32, 32, 3), 120, np.uint8)
    attention = {name: np.full((2, 3, 2, 5), 0.02) for name in (FINE, COARSE)}
    attention[FINE][0, :, :, 1 + 3] = 0.9  # the last of four patches, behind the class token
    said = {FINE: "A B C", COARSE: "A A A"}
    shown = [Shown("clip", "What?", "A B C", frames, (2, 2), [3, 3, 3], attention, said)] * 2
    gaze = shown[0].gaze(FINE)
    assert gaze.attention.reshape(3, 4).argmax(1).tolist() == [3, 3, 3]
    write_pictures(tmp_path / "pictures", shown)
    write_video(tmp_path / "gaze.mp4", shown)
    assert probe((tmp_path / "gaze.mp4").read_bytes()).frames == 6
    with Image.open(tmp_path / "pictures" / "gaze-by-pass.png") as image:
        assert image.size[0] > 3 * 120
    assert (tmp_path / "pictures" / "gaze-by-layer-and-head.png").exists()
