"""What a sweep makes of results: the table, the JSON files, the TensorBoard runs and the page."""

import csv
import html
import json
import re
from dataclasses import dataclass

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastvid.sweep.__main__ import main
from fastvid.sweep.comparison import compare
from fastvid.sweep.folder import SweepFolder
from fastvid.sweep.options import GivenOptions
from fastvid.sweep.page import headlines
from fastvid.sweep.project_options import ProjectOptions
from fastvid.sweep.publish import publish, publish_tables
from fastvid.train.rundir import write_json
from tests.sweep.fake_recipe import STEPS, TEST, result

VALIDATION = r"[\d.]+ \[[^]]+\] ± [\d.]+ [\d.]+ to [\d.]+"  # the ranking measure's cell
CLASSES = ("circular", "helical", "linear", "parabolic")


@dataclass
class Cell:
    """What a planted run is of."""

    approach: str
    videos: int | None
    seed: int


@pytest.fixture
def planted(tmp_path):
    """``planted(approaches, videos, seeds, change)``: a folder of finished runs; ``change`` edits their results."""

    def make(approaches="head,lora", videos="50", seeds="0,1", change=lambda cell, found: None, page=True):
        folder = SweepFolder(tmp_path / "s", ProjectOptions("vjepa2"))
        axes = {"--approach": approaches, "--data.videos-per-class": videos, "--run.seed": seeds}
        runs = folder.begin(GivenOptions({option: values.split(",") for option, values in axes.items()}))
        for i, run in enumerate(runs):
            path = folder.run_path(run)
            approach, amount, seed = run.values.values()
            cell = Cell(approach, None if amount == "all" else int(amount), int(seed))
            path.mkdir(parents=True)
            found = result(
                {"approach": cell.approach, "run.seed": cell.seed, "data.videos-per-class": cell.videos,
                 "optim.lr": 2e-4, "lora.rank": 16, "lora.alpha": 32, "lora.dropout": 0.1}
            )  # fmt: skip
            change(cell, found)
            write_json(path / "config.json", {"data": {"path": "/videos/NTU 4/", "threads": 3}})
            write_json(path / "run.json", {"starts": [{"time": f"2026-03-01T12:{i:02d}:00"}, {"time": "2027-01-01"}]})
            write_json(path / "status.json", {"state": "finished"})
            write_json(path / "result.json", found)
            lines = [json.dumps({"stage": "train", "step": 5 * i, "loss": 1 / i}) + "\n" for i in range(1, 6)]
            (path / "metrics.jsonl").write_text("".join(lines))
        (publish if page else publish_tables)(folder)
        folder.close()
        return folder

    return make


def page_of(folder) -> str:
    """The page's text without its pictures and tags."""
    page = (folder.path / "compare.html").read_text()
    assert not re.search(r"""(src|href)=["']http""", page)
    page = re.sub(r"<svg.*?</svg>", " ", page, flags=re.DOTALL)
    page = html.unescape(page)
    page = re.sub(r"</?(b|span)\b[^>]*>", "", page)
    return " ".join(re.sub(r"<[^>]*>", " ", page.split("</style>")[-1].split("<h2>Sweep")[0]).split())


def replan(found: dict, right: list[bool]) -> None:
    """Makes a result's answers right or wrong as given."""
    test = found["test"]
    test["predicted"] = [y if ok else (y + 1) % 4 for y, ok in zip(test["labels"], right, strict=True)]
    test["correct"] = sum(right)
    test["accuracy"] = sum(right) / len(right)


def test_the_table_has_the_published_columns_first_and_their_meanings(planted):
    folder = planted(page=False)
    with (folder.path / "experiments.csv").open() as file:
        table = list(csv.DictReader(file))
    measures = [f"{m}_{c}" for c in CLASSES for m in ("precision", "recall", "f1")]
    assert list(table[0]) == [
        "timestamp", "approach", "num_videos_per_class", "num_train_videos", "num_val_videos", "num_test_videos",
        "frames_per_clip", "learning_rate", "weight_decay", "batch_size", "accumulation_steps", "num_epochs",
        "trainable_params", "total_params", "trainable_pct", "final_test_acc", "best_val_acc", "training_time_sec",
        "training_time_min", "lora_rank", "lora_alpha", "lora_dropout",
        "git_hash", "final_train_acc", "best_epoch", "inference_time_ms", *measures,
        "seed", "features_sec", "test_low", "test_high", "run",
    ]  # fmt: skip
    assert [row["run"] for row in table] == [f"{a}-50videos-seed{s}" for a in ("head", "lora") for s in (0, 1)]
    head, lora = table[0], table[2]
    assert (head["lora_rank"], head["lora_alpha"], head["lora_dropout"]) == ("", "", "")
    assert (lora["lora_rank"], lora["lora_alpha"], lora["lora_dropout"]) == ("16", "32", "0.1")
    assert head["timestamp"] == "260301-120000"  # of the first start
    assert (head["batch_size"], head["accumulation_steps"]) == ("4", "2")  # 8 clips an update in two passes
    assert float(head["trainable_pct"]) == pytest.approx(100 * 4100 / 375_311_748)
    assert float(head["training_time_sec"]) == pytest.approx(0.2 * 50)
    assert float(head["training_time_min"]) == pytest.approx(10 / 60)
    assert float(head["features_sec"]) == 3
    found = json.loads((folder.path / "runs" / lora["run"] / "result.json").read_text())
    assert float(lora["final_test_acc"]) == found["test"]["accuracy"]
    assert float(lora["f1_linear"]) == found["test"]["per_class"]["linear"]["f1"]


def test_each_run_has_its_json_under_the_published_name_and_keys(planted):
    folder = planted("head,pooler,lora,pooler+lora,backbone-lora,full", seeds="0", page=False)
    files = {path.name: json.loads(path.read_text()) for path in (folder.path / "json").iterdir()}
    assert sorted(files) == [
        "backbone_lora_metrics_50videos_16frames_260301-120400.json",
        "full_metrics_50videos_16frames_260301-120500.json",
        "head_only_metrics_50videos_16frames_260301-120000.json",
        "lora_action_metrics_50videos_16frames_260301-120200.json",
        "pooler_head_lora_metrics_50videos_16frames_260301-120300.json",
        "pooler_head_metrics_50videos_16frames_260301-120100.json",
    ]
    head = files["head_only_metrics_50videos_16frames_260301-120000.json"]
    lora = files["lora_action_metrics_50videos_16frames_260301-120200.json"]
    assert list(lora) == [
        "timestamp", "approach", "num_videos_per_class", "num_train_videos", "num_val_videos", "num_test_videos",
        "frames_per_clip", "learning_rate", "weight_decay", "batch_size", "accumulation_steps", "num_epochs",
        "trainable_params", "total_params", "final_test_acc", "final_train_acc", "best_val_acc", "best_epoch",
        "inference_time_ms", "lora_rank", "lora_alpha", "lora_dropout", "total_training_time", "model_name", "seed",
        "num_workers", "epochs", "train_loss", "val_acc", "per_class_metrics", "confusion_matrix", "git_hash",
        "features_sec", "test_low", "test_high", "run",
    ]  # fmt: skip
    assert set(lora) - set(head) == {"lora_rank", "lora_alpha", "lora_dropout"}
    assert lora["epochs"] == [1, 2, 3, 4, 5]
    assert len(lora["train_loss"]) == len(lora["val_acc"]) == STEPS
    assert set(lora["per_class_metrics"]) == set(CLASSES)
    assert set(lora["per_class_metrics"]["linear"]) == {"precision", "recall", "f1"}
    assert sum(map(sum, lora["confusion_matrix"]["matrix"])) == TEST
    assert lora["num_workers"] == 3


def test_each_run_has_its_curves_under_the_published_tags(planted):
    folder = planted("lora,pooler+lora", seeds="0", page=False)
    assert sorted(path.name for path in (folder.path / "tensorboard").iterdir()) == [
        "NTU 4_action_lora_50videos_16frames_260301-120000",
        "NTU 4_pooler_head_lora_50videos_16frames_260301-120100",
    ]
    events = EventAccumulator(str(folder.path / "tensorboard" / "NTU 4_action_lora_50videos_16frames_260301-120000"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["Test/Final_Accuracy", "Train/Loss", "Val/Accuracy"]
    found = json.loads((folder.path / "runs" / "lora-50videos-seed0" / "result.json").read_text())
    loss = [(event.step, event.value) for event in events.Scalars("Train/Loss")]
    assert loss == [(5 * i, pytest.approx(1 / i)) for i in range(1, 6)]
    val = [(event.step, event.value) for event in events.Scalars("Val/Accuracy")]
    assert val == list(zip(range(1, 6), map(pytest.approx, found["curves"]["val_accuracy"]), strict=True))
    (test,) = events.Scalars("Test/Final_Accuracy")
    assert (test.step, test.value) == (STEPS, pytest.approx(found["test"]["accuracy"]))


def test_the_page_tells_a_planted_difference_from_a_planted_null(planted):
    def change(cell, found):
        # head is wrong on 60 more videos than the others; these differ among themselves on as many videos each way.
        wrong = {"head": range(100), "pooler": range(40), "lora": range(4, 44)}[cell.approach]
        replan(found, [i not in wrong for i in range(TEST)])

    text = page_of(planted("head,pooler,lora", "50,100", "0,1,2", change))
    for amount in (50, 100):
        assert (
            f"With {amount} videos a class pooler (83.3 %) leads: significantly better than head; not distinguishable "
            "from lora."
        ) in text
        pattern = rf"{amount} pooler vs lora \+0\.0 \[-2\.\d, \+2\.\d\] 0, 1, 2 1\.00 1\.00 not distinguishable"
        assert re.search(pattern, text)
        row = re.search(
            rf"{amount} pooler vs head \+25\.0 \[\+(\S+), \+(\S+)\] 0, 1, 2 0.0001 (\S+) pooler is better", text
        )
        assert row is not None
        assert float(row[1]) == pytest.approx(25 - 1.96 * 100 * (0.25 * 0.75 / TEST) ** 0.5, abs=0.7)
        assert float(row[3]) == 0.0006  # six pairs, the smallest p times six
    assert "18 of 18 runs have finished" in text
    # 200 of 240 videos, three times the same: the interval is that of 240, not of 720.
    assert re.search(rf"pooler 50 3 {VALIDATION} 83\.3 \[78\.1, 87\.5\] ± 0\.0 83\.3 to 83\.3", text)


def test_seeds_are_averaged_per_video_not_counted_as_videos(planted):
    def change(cell, found):
        # Seven videos decide. Three seeds that agree are no 21 videos: p = 2 / 2**7, not 2 / 2**21.
        replan(found, [cell.approach == "lora" or i >= 7 for i in range(TEST)])

    folder = planted("head,lora", "50", "0,1,2", change)
    pattern = r"50 lora vs head \+2\.9 \[\+[01]\.\d, \+[45]\.\d\] 0, 1, 2 0\.016 0\.016 lora is better"
    assert re.search(pattern, page_of(folder))


def test_other_test_videos_are_not_compared(planted):
    def other_videos(cell, found):
        if cell.approach == "lora":
            found["test"]["keys"] = [f"other/{key}" for key in found["test"]["keys"]]

    text = page_of(planted(change=other_videos))
    assert "50 lora vs head not compared: they were tested on different videos, or on different labels (seed 0)" in text
    assert re.search(r"With 50 videos a class lora \(\d\d\.\d %\) leads: not comparable with head\.", text)
    assert "is better" not in text


def test_other_labels_are_not_compared(planted):
    def other_labels(cell, found):
        if cell.approach == "lora":
            found["test"]["labels"] = [*found["test"]["labels"][1:], 3]

    assert "tested on different videos, or on different labels" in page_of(planted(change=other_labels))


def test_splits_of_each_seed_s_own_are_compared_within_the_seed(planted):
    def change(cell, found):
        found["test"]["keys"] = [f"split{cell.seed}/{key}" for key in found["test"]["keys"]]
        replan(found, [cell.approach == "lora" or i >= 20 for i in range(TEST)])

    text = page_of(planted(change=change))
    assert "50 lora vs head +8.3" in text
    assert re.search(rf"head 50 2 {VALIDATION} 91\.7 \[88\.9, 93\.8\]", text)  # 480 videos now


@pytest.mark.parametrize(
    ("approaches", "videos", "seeds", "words"),
    [
        ("lora", "50,100", "0,1", "With 50 videos a class only lora"),
        ("head,lora", "all", "0", "With all videos lora"),
        ("head,pooler,lora,pooler+lora,backbone-lora,full", "50", "0", "With 50 videos a class"),
    ],
)
def test_small_and_large_grids_have_a_page(planted, approaches, videos, seeds, words):
    text = page_of(planted(approaches, videos, seeds))
    assert words in text
    assert "nan" not in text
    assert "Confusion" in text


def test_a_leader_that_owes_it_to_other_seeds_is_called_behind(planted):
    def change(cell, found):
        # Of seed 0, which both have, head is right on 20 videos more; its bad seed 1 is all that puts it second.
        right = {("head", 0): 220, ("head", 1): 100, ("lora", 0): 200}.get((cell.approach, cell.seed), 0)
        replan(found, [i < right for i in range(TEST)])

    folder = planted(change=change)
    (folder.path / "runs" / "lora-50videos-seed1" / "result.json").unlink()
    assert main(["report", str(folder.path)]) == 0
    text = page_of(folder)
    assert "With 50 videos a class lora (83.3 %) leads: but behind head on the seeds that both have." in text
    assert re.search(r"50 lora vs head -8\.3 .* 0 0\.0001 0\.0001 head is better", text)


def test_missing_runs_and_single_seeds(planted, capsys):
    folder = planted("head,lora", "50,100", "0,1")
    for name in ("head-50videos-seed0", "lora-50videos-seed1"):
        (folder.path / "runs" / name / "result.json").unlink()
    (folder.path / "runs" / "head-100videos-seed0" / "result.json").unlink()
    assert main(["report", str(folder.path)]) == 0
    assert capsys.readouterr().out == f"{folder.path / 'compare.html'}\n"
    text = page_of(folder)
    assert "5 of 8 runs have finished" in text
    assert "50 lora vs head not compared: they have no seed in common" in text
    assert "100 lora vs head" in text
    assert "head, 50 videos a class, seed 0 begun" in text
    for path in folder.path.glob("runs/*/result.json"):
        path.unlink()
    assert main(["report", str(folder.path)]) == 0
    assert "No run has finished yet." in page_of(folder)
    assert headlines(compare([], ProjectOptions("vjepa2"))) == ["No run has finished yet."]


def test_only_a_sweep_has_a_report(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "it has no sweep.json" in capsys.readouterr().err
    assert main(["vjepa3"]) == 2
    assert "no project 'vjepa3': choose one of salt, vjepa2" in capsys.readouterr().err


def test_epochs_that_end_between_steps_and_losses_that_were_not_recorded(planted):
    def change(cell, found):
        found["curves"] |= {"epoch": [0.98, 1.96, 3.0, 3.98, 4.96], "train_loss": [1.0, None, 0.5, 0.4, None]}
        found["best"]["epoch"] = 4.96
        found["optim"]["epochs"] = 0

    folder = planted("lora", seeds="0", change=change)
    assert "Curves" in page_of(folder)
    (path,) = (folder.path / "json").iterdir()
    content = json.loads(path.read_text())
    assert (content["epochs"], content["best_epoch"], content["num_epochs"]) == ([1, 2, 3, 4, 5], 5, 5)
    (board,) = (folder.path / "tensorboard").iterdir()
    events = EventAccumulator(str(board)).Reload()
    assert [event.step for event in events.Scalars("Val/Accuracy")] == [1, 2, 3, 4, 5]
    assert [event.step for event in events.Scalars("Test/Final_Accuracy")] == [5]
