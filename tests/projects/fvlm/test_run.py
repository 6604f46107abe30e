"""Whole runs of ``python -m fastvid.train fvlm``, small enough for tests."""

import json

import pytest
import torch

import fastvid
from fastvid.caption import main as caption
from fastvid.data import TrainLoader
from fastvid.export import main as export
from fastvid.projects import fvlm
from fastvid.projects.fvlm.config import FvlmConfig
from fastvid.projects.fvlm.presets import PRESETS
from fastvid.train.config import Launch, parse
from fastvid.video import probe
from tests.projects.cut_off import cut_off_and_resume, go
from tests.projects.fvlm.trained import saved_weights
from tests.projects.fvlm.two_processes import check_two_processes_are_one
from tests.train.conftest import records

SMALL = """
--demo.frames 3 --demo.cells 3 --demo.tiles 3 --demo.train 48 --demo.val 8 --demo.test 8
--model.tiny-width 16 --model.tiny-heads 2 --data.questions 2 --test.questions 2 --test.every 4 --test.shown 1
--optim.steps 8 --optim.batch 8 --optim.warmup 2 --coarse-optim.steps 4 --coarse-optim.batch 8 --coarse-optim.warmup 2
--curriculum.one-tile 2 --curriculum.one-frame 2 --curriculum.two-frames 2 --restart.step 0
--run.log-every 2 --run.checkpoint-every 3 --run.tensorboard False --run.threads 1
""".split()  # noqa: SIM905 (as it would be typed)


def config_of(folder, *options) -> FvlmConfig:
    found, _ = parse("fvlm", PRESETS, "demo", [*SMALL, "--run.dir", str(folder), *options])
    return found


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of the demo's clips that all runs share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTVID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache):
    """A finished run."""
    return fvlm.train(config_of(tmp_path_factory.mktemp("runs") / "run"))


def result(folder) -> dict:
    return json.loads((folder / "measures.json").read_text())


def test_a_run_leaves_what_its_users_read(run):
    names = {path.name for path in run.path.iterdir()}
    assert {"measures.json", "gaze.mp4", "report.html", "model", "model-coarse-alone", "pictures"} <= names
    found = result(run.path)
    assert found["clips"] == {"train": 48, "val": 8, "test": 8}
    assert found["questions"] == 16
    assert {"fine", "coarse", "parallel", "oracle", "no frames", "coarse alone"} <= found["answers"].keys()
    assert found["answers"]["fine"].keys() == {"tiles", "chain", "all"}
    assert len(found["acceptance"]) == 13
    assert None not in [row["value"] for row in found["acceptance"]]
    assert len(found["samples"]) == 2  # one of each task
    assert found["legacy_ratio"] > 0
    assert probe((run.path / "gaze.mp4").read_bytes()).frames == 2 * 3


def test_a_run_is_exported(run, tmp_path):
    assert export([str(run.path), "--out", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| data | the demo's clips, which fastvid makes (48 of train, 8 of val, 8 of test) |" in card
    assert "| coarse alone | all | 16 |" in card
    assert str(run.path) not in card


def test_validation_is_recorded_by_pass_and_task_and_both_losses_are(run):
    assert run.series("fine", "val_accuracy_fine_chain")[0] == [4, 8]
    assert run.series("coarse", "val_accuracy_coarse_tiles")[0] == [4]
    assert not run.series("coarse", "val_accuracy_fine_tiles")[0]
    assert run.series("fine", "fine_loss")[0] == run.series("fine", "coarse_loss")[0] == [2, 4, 6, 8]


@pytest.mark.parametrize("batch", [5, 11])
def test_a_run_that_is_killed_goes_on_bit_for_bit(run, tmp_path, monkeypatch, batch):
    """It is cut off in the middle of one stage or the other, with nothing saved but what the disk has."""
    folder = tmp_path / "run"
    cut_off_and_resume("fvlm", config_of(folder), TrainLoader, batch, monkeypatch)
    assert records(folder) == records(run.path)
    for name in ("model", "model-coarse-alone"):
        left, right = (saved_weights(path / name) for path in (folder, run.path))
        assert all(torch.equal(left[key], right[key]) for key in left)
    assert result(folder) == result(run.path)


def test_a_model_that_does_not_begin_to_look_begins_anew_from_other_weights(tmp_path, monkeypatch):
    """By a rule, with validation clips; and a resume knows how often."""
    options = ("--restart.step", "4", "--restart.margin", "1", "--restart.times", "2", "--coarse-alone", "False")
    run = fvlm.train(config_of(tmp_path / "run", *options))
    assert run.stages == ["fine", "fine-2", "fine-3"]
    assert [run.series(name, "val_accuracy_fine_all")[0] for name in run.stages] == [[4], [4], [4, 8]]
    first = [run.series(name, "fine_loss")[1][0] for name in run.stages]
    assert len(set(first)) == 3
    found = result(run.path)
    assert found["stage"] == "fine-3"
    assert found["given_up"] == [run.last(name, "val_accuracy_fine_all") for name in run.stages[:2]]
    before = saved_weights(run.path / "model")
    (run.path / "measures.json").unlink()
    assert go("fvlm", config_of(run.path, *options), Launch(resume=run.path)) == 0
    after = saved_weights(run.path / "model")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert result(run.path) == found


def test_a_restart_is_decided_by_a_validation(tmp_path, capsys):
    with pytest.raises(SystemExit):
        config_of(tmp_path / "run", "--restart.step", "5")
    assert "not one of every 4 validations" in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_what_was_saved_answers_a_question_about_a_video_file(run, tmp_path, capsys):
    video = run.path / "gaze.mp4"
    arguments = [str(run.path), str(video), "--ask", "Read the tile that is red", "--tokens", "5"]
    assert caption([*arguments, "--gaze", str(tmp_path / "out" / "gaze.mp4")]) == 0
    said = capsys.readouterr()
    assert "where it looked" in said.err
    looked = json.loads((tmp_path / "out" / "gaze.json").read_text())
    assert looked["answer"] == said.out.strip()
    assert looked["mode"] == "stream"
    assert len(looked["looks"]) == 3
    assert probe((tmp_path / "out" / "gaze.mp4").read_bytes()).frames == 3
    assert caption([*arguments, "--mode", "coarse", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "coarse"


def test_a_notebook_asks_the_loaded_model(run):
    model = fastvid.load(run.path)
    answer = model.ask(run.path / "gaze.mp4", tokens=4)
    assert answer.question == model.about["question"]
    with pytest.raises(RuntimeError, match="iterate over the answer first"):
        answer.as_dict()
    pieces = list(answer)
    assert "".join(pieces).strip() == answer.text
    weights = answer.attention
    assert weights.shape == (1, 3, 2, 3, 3)  # layers, frames, heads, rows, columns
    assert 0 < weights.sum((-2, -1)).min() <= weights.sum((-2, -1)).max() <= 1 + 1e-5
    with pytest.raises(RuntimeError, match="made already"):
        iter(answer)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode", "slow"], "no mode 'slow': choose coarse, parallel, stream"),
        (["--ask", " "], "the question is empty"),
        (["--gaze", "out.gif"], "must end in .mp4"),
        (["--source", "x"], "saved whole"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(run, capsys, arguments, said):
    assert caption([str(run.path), str(run.path / "gaze.mp4"), *arguments]) == 2
    found = capsys.readouterr().err
    assert said in found
    assert found.count("\n") == 1


def test_videos_that_cannot_be_read_are_one_sentence(run, tmp_path, capsys):
    assert caption([str(run.path), str(tmp_path / "none.mp4")]) == 2
    assert "no video at" in capsys.readouterr().err
    (tmp_path / "text.mp4").write_text("no video")
    assert caption([str(run.path), str(tmp_path / "text.mp4")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_words_that_were_never_read_are_named(run, capsys):
    assert caption([str(run.path), str(run.path / "gaze.mp4"), "--ask", "Who is red", "--tokens", "1"]) == 0
    assert "has never read the words Who and" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "shared"), [("stream", "fsdp"), ("parallel", "ddp")])
def test_two_processes_are_one_process_at_the_same_global_batch(salt, tmp_path, mode, shared):
    """Answers differ in their number of tokens, so that a mean of the processes' means would not be theirs."""
    options = [*SMALL, "--optim.accumulate", "2", "--model.mode", mode, "--data.questions", "3"]
    options += ["--run.parallel", shared]
    check_two_processes_are_one(salt, tmp_path, options, near=2e-3)
