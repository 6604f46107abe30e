"""The published recipes, end to end on made clips with small models."""

import json

import pytest
import torch

from fastvid.command import UserError
from fastvid.data import TrainLoader
from fastvid.projects import fvlm
from fastvid.projects.fvlm.presets import PRESETS
from fastvid.projects.load import load
from fastvid.train.config import parse
from tests.projects.cut_off import cut_off_and_resume
from tests.projects.fvlm.trained import saved_weights
from tests.projects.fvlm.two_processes import check_two_processes_are_one
from tests.train.conftest import records
from tests.video.clips import encode

SMALL = """
--model.init tiny --model.tiny-width 16 --model.tiny-heads 2 --data.size 40 --data.frames 4 --reconstruct.side 8
--optim.steps 4 --optim.batch 4 --optim.accumulate 2 --optim.warmup 1 --test.every 2 --test.shown 1 --test.tokens 4
--data.shares 0.5 0.25 0.25 --run.tensorboard False --run.threads 1 --run.log-every 1 --run.checkpoint-every 3
--run.precision float32
""".split()  # noqa: SIM905 (as it would be typed)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Eight videos of 3 to 10 frames with captions."""
    folder = tmp_path_factory.mktemp("videos")
    written = []
    for number in range(8):
        (folder / f"{number}.mp4").write_bytes(encode(3 + number))
        written.append({"file": f"{number}.mp4", "caption": f"a square moves {number} times"})
    (folder / "captions.json").write_text(json.dumps(written))
    return folder


def config_of(preset, folder, videos, *options):
    arguments = ["--preset", preset, *SMALL, "--data.path", videos, "--run.dir", folder, *options]
    found, _ = parse("fvlm", PRESETS, "demo", [*map(str, arguments)])
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory, videos):
    """A finished run of each preset, made when it is asked for."""
    made = {}

    def run(preset):
        if preset not in made:
            made[preset] = fvlm.train(config_of(preset, tmp_path_factory.mktemp("runs") / preset, videos))
        return made[preset]

    return run


def weights(folder):
    return saved_weights(folder / "model")


@pytest.mark.parametrize(
    ("preset", "terms"),
    [
        ("phase2", {"fine_reconstruction", "coarse_reconstruction"}),
        ("joint", {"fine_reconstruction", "fine_loss", "fine_accuracy"}),
        ("stage1", {"fine_loss", "fine_accuracy"}),
    ],
)
def test_a_preset_trains_tests_and_reports(runs, videos, preset, terms):
    run = runs(preset)
    assert run.stages == ["fine"]
    first = run.metrics[0]
    assert terms <= first.keys()
    assert "coarse_loss" in first or preset == "phase2"  # measured in the first of ten micro-batches
    found = json.loads((run.path / "measures.json").read_text())
    assert (found["mode"], found["stage"]) == ("parallel", "fine")
    rebuilt = found["reconstruction"]
    if preset in ("phase2", "joint"):
        assert rebuilt["low"] <= rebuilt["ratio"] <= rebuilt["high"]
        assert rebuilt["ratio"] == pytest.approx(rebuilt["coarse"] / rebuilt["fine"])
        assert run.series("fine", "val_reconstruction_fine")[0] == [2, 4]
    else:
        assert rebuilt == {}
    page = (run.path / "report.html").read_text()
    assert ("Reconstruction, on test clips" in page) == bool(rebuilt)
    assert ("Answers, on test clips" in page) == (preset != "phase2")
    assert ("no answer was learnt" in page) == (preset == "phase2")
    answer = load(run.path).ask(videos / "7.mp4", "What moves?", tokens=3)
    list(answer)
    assert len(answer.as_dict()["looks"]) == (1 if preset == "stage1" else 4)  # one frame a second


@pytest.mark.parametrize("preset", ["phase2", "joint"])
def test_a_run_that_is_killed_goes_on_bit_for_bit(runs, tmp_path, videos, monkeypatch, preset):
    run, folder = runs(preset), tmp_path / preset
    cut_off_and_resume("fvlm", config_of(preset, folder, videos), TrainLoader, 7, monkeypatch)
    assert records(folder) == records(run.path)
    left, right = weights(folder), weights(run.path)
    assert all(torch.equal(left[name], right[name]) for name in right)
    assert (folder / "measures.json").read_bytes() == (run.path / "measures.json").read_bytes()


def test_a_second_stage_goes_on_from_the_first(runs, tmp_path, videos):
    first = runs("stage1")
    options = ("--start", first.path, "--optim.lr", 1e-12, "--model.init", "pretrained")
    run = fvlm.train(config_of("stage2", tmp_path / "run", videos, *options))
    left, right = weights(run.path), weights(first.path)
    assert left.keys() == right.keys()
    for name in right:
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=1e-9)
    assert load(run.path).model.config.init == "tiny"  # what it was made of, not the preset's


def test_a_run_without_a_trained_model_cannot_be_gone_on_from(tmp_path, videos, capsys):
    with pytest.raises((UserError, RuntimeError)):
        fvlm.train(config_of("stage2", tmp_path / "run", videos, "--start", tmp_path))
    assert "no trained model in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--reconstruct.told", "True", "--reconstruct.weight", "0"), "told learns no answer"),
        (("--reconstruct.told", "True", "--coarse-alone", "True", "--model.aim", "text"), "compares answers"),
        (("--model.marks", "False"), "--model.marks True"),
        (("--reconstruct.told", "True"), "told puts the text in front of the frames"),
        (("--reconstruct.latents", "diffusers", "--data.lengths", "2", "4"), "--data.lengths gives them others"),
    ],
)
def test_options_that_contradict_each_other_are_one_sentence(tmp_path, videos, capsys, options, said):
    with pytest.raises(SystemExit):
        config_of("joint", tmp_path, videos, *options)
    assert said in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_a_stage_with_marks_goes_on_from_one_without_and_says_what_is_new(runs, tmp_path, videos, capsys):
    first = runs("stage1")
    run = fvlm.train(config_of("joint", tmp_path / "run", videos, "--start", first.path, "--optim.steps", 1))
    assert "coarse_mark, fine_mark, no_text starts at random" in " ".join(capsys.readouterr().err.split())
    assert weights(run.path).keys() - weights(first.path).keys() == {
        "model.connector.coarse_mark", "model.connector.fine_mark", "model.connector.no_text"
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "near"), [("phase2", 2e-3), ("joint", 5e-2)])
def test_two_processes_are_one_process_at_the_same_global_batch(salt, tmp_path, videos, preset, near):
    """In the joint loss a micro-batch's error has the weight of its tokens, of which processes have unequal numbers."""
    options = ["--preset", preset, *SMALL, "--data.path", str(videos)]
    check_two_processes_are_one(salt, tmp_path, options, near=near)
