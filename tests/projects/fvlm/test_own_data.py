"""Runs of ``python -m fastvid.train fvlm`` on other people's videos and texts."""

import json

import pytest

from fastvid.command import UserError
from fastvid.data import ShardWriter
from fastvid.data.shards.dataset_json import save_dataset
from fastvid.projects import fvlm
from fastvid.projects.fvlm.presets import PRESETS
from fastvid.projects.load import load
from fastvid.train.config import parse
from tests.video.clips import encode

OPTIONS = """
--model.tiny-width 16 --model.tiny-heads 2 --data.size 32 --data.frames 4 --data.questions 2 --test.questions 2
--optim.steps 3 --optim.batch 4 --optim.warmup 1 --coarse-optim.steps 2 --coarse-optim.batch 4 --coarse-optim.warmup 1
--test.shown 1 --test.tokens 4 --run.tensorboard False --run.threads 1 --data.shares 0.5 0.25 0.25
""".split()  # noqa: SIM905 (as it would be typed)


def train(folder, *options):
    config, _ = parse("fvlm", PRESETS, "demo", [*OPTIONS, "--run.dir", str(folder), *map(str, options)])
    return fvlm.train(config)


@pytest.fixture
def videos(tmp_path):
    """Eight videos of 3 to 10 frames, the last of which is cut short, and what is written about them."""
    folder = tmp_path / "videos"
    folder.mkdir()
    written = []
    for number in range(8):
        data = encode(3 + number)
        (folder / f"{number}.mp4").write_bytes(data[:600] if number == 7 else data)
        talk = [
            {"from": "human", "value": f"<video>\nWhat is number {number}?"}, {"from": "gpt", "value": "a square"},
            {"from": "human", "value": "And then?"}, {"from": "gpt", "value": f"it moves {number} times"},
        ]  # fmt: skip
        about = {"conversations": talk} if number % 2 else {"caption": f"a square moves {number} times"}
        written.append({"file": f"{number}.mp4", **about})
    (folder / "captions.json").write_text(json.dumps(written))
    return folder


def test_a_folder_with_captions_and_conversations(videos, tmp_path):
    run = train(tmp_path / "run", "--data.path", videos)
    found = json.loads((run.path / "measures.json").read_text())
    assert sum(found["clips"].values()) == 8
    assert found["acceptance"] == []
    assert list(found["answers"]["fine"]) == ["all"]
    assert found["looks"]["fine"]["hits"]["all"]["hit_rate"] is None
    assert "oracle" not in found["answers"]
    assert [sample["key"] for sample in run.bad_samples] == ["7.mp4"]
    answer = load(run.path).ask(videos / "3.mp4", tokens=3)
    assert answer.question == "Describe the video."
    list(answer)
    assert len(answer.as_dict()["looks"]) == 4


def test_videos_of_about_the_same_length_are_batched_together(tmp_path):
    with ShardWriter(tmp_path / "shards", "videos") as writer:
        for number in range(8):
            talk = [{"from": "human", "value": "How long?"}, {"from": "gpt", "value": f"{number} frames"}]
            writer.add(f"{number}", ".mp4", encode(3 + number), extra={"conversations": talk})
    save_dataset(tmp_path / "shards", writer.dataset())
    lengths = ("--data.lengths", 2, 4, "--data.budget", 8, "--data.max-fps", 9)
    run = train(tmp_path / "run", "--data.path", tmp_path / "shards", *lengths)
    assert json.loads((run.path / "measures.json").read_text())["frames"] == 4
    # Batches of four, two or fewer clips: what is recorded is what was shown.
    assert f"fine: {int(run.last('fine', 'clips'))} clips of 4 unique samples" in (run.path / "log.txt").read_text()
    assert run.last("fine", "clips") != 3 * 4


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[{", "captions.json is no JSON"),
        ('[{"caption": "no video"}]', "names no video"),
        ('[{"file": "0.mp4", "caption": "x"}]', "no clips for val and test"),
    ],
)
def test_a_list_that_cannot_be_used_is_one_sentence(videos, tmp_path, written, said, capsys):
    (videos / "captions.json").write_text(written)
    with pytest.raises((UserError, RuntimeError)):
        train(tmp_path / "run", "--data.path", videos)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_videos_about_which_nothing_is_written_are_refused(videos, tmp_path, capsys):
    (videos / "captions.json").unlink()
    with pytest.raises(RuntimeError):
        train(tmp_path / "run", "--data.path", videos)
    assert "nothing is written about any of" in capsys.readouterr().err
