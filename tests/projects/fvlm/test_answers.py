"""``python -m fastvid.eval RUN --data.path ...`` of a vision-language model."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from fastvid.data import Batch, ChatFormat, ShardWriter, TextChoice, TextCollator
from fastvid.data.shards.dataset_json import save_dataset
from fastvid.data.text.conversation import Conversation, Turn
from fastvid.data.text.rows import ClipText
from fastvid.eval import __main__ as door
from fastvid.projects.fvlm.answers_config import AnswersConfig
from fastvid.projects.fvlm.choice_test import INSTRUCTION
from fastvid.projects.fvlm.loss import TextLoss
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.multiple_choice import Prompt, score
from fastvid.projects.fvlm.open_model import open_model
from fastvid.projects.fvlm.saved import load, save
from fastvid.video import ViewSpec, decode_view, probe
from tests.video.clips import encode

OPTIONS = ["a square", "a disc", "a ring"]
QUESTIONS = [
    {"video": "one.mp4", "question": "What is it?", "candidates": OPTIONS, "answer": "a disc"},
    {"video": "two.mp4", "question": "What is it?", "candidates": OPTIONS[:2], "answer": "a square"},
    {"video": "two.mp4", "question": "And then?", "candidates": OPTIONS, "answer": "a ring"},
    {"video": "bad.mp4", "question": "What is it?", "candidates": OPTIONS, "answer": "a ring"},
    {"video": "gone.mp4", "question": "What is it?", "candidates": OPTIONS, "answer": "a ring"},
]
VIEWS = ViewSpec(frames=3, size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A saved model with random weights."""
    folder = tmp_path_factory.mktemp("run")
    texts = [*OPTIONS, "What is it? And then?", "Describe the video.", INSTRUCTION, "A. B. C.", "it moves"]
    config = ModelConfig(init="tiny", tiny_width=16, tiny_heads=2, tiny_layers=1)
    model, tokenizer = open_model(config, size=32, texts=texts)
    about = {"views": dataclasses.asdict(VIEWS), "max_fps": None, "question": "Describe the video.", "mode": "stream"}
    save(folder / "model", model, tokenizer, about)
    return folder


@pytest.fixture
def videos(tmp_path):
    for name, frames in (("one", 5), ("two", 2)):
        (tmp_path / f"{name}.mp4").write_bytes(encode(frames))
    (tmp_path / "bad.mp4").write_bytes(encode(9)[:500])
    return tmp_path


def evaluated(run, path, tmp_path, *options):
    out = tmp_path / "out" / "found.json"
    out.parent.mkdir(exist_ok=True)
    assert door.main([str(run), "--data.path", str(path), "--out", str(out), *map(str, options)]) == 0
    return json.loads(out.read_text())


def by_hand(run, name, question, options, mode, *, end):
    """Log-likelihood per token of each option, by the scorer of one clip."""
    trained = load(run / "model")
    chat = ChatFormat(trained.tokenizer, trained.model.config.layout)
    data = encode({"one": 5, "two": 2}[name])
    view = VIEWS.center(f"{name}.mp4", probe(data))
    frames = list(dict.fromkeys(view.frames))
    clip = torch.from_numpy(decode_view(data, dataclasses.replace(view, frames=tuple(frames))))[None]
    prompt = Prompt.of(chat, question, options, end=end)
    found = score(trained.model, clip, torch.ones(1, len(frames), dtype=torch.bool), [[prompt]], (mode,))
    return found[mode].mean[0, 0].numpy()


def test_multiple_choice_by_letters(run, videos, tmp_path, capsys):
    (videos / "list.json").write_text(json.dumps(QUESTIONS))
    found = evaluated(run, videos / "list.json", tmp_path, "--batch", 2, "--questions", 2)
    assert (found["questions"], found["clips"]) == (3, 2)
    assert [list(found[part]) for part in ("accuracy", "ce")] == [["coarse", "parallel", "stream", "no frames"]] * 2
    assert list(found["letters"]["stream"]) == ["chosen", "averaged", "every", "same"]
    assert found["chance"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 3) / 3)
    assert [note.split(",")[0] for note in found["left_out"]] == ["left out: 1 of 5 questions", "not decoded: bad.mp4"]
    assert found["data"] == [str(videos / "list.json")]
    third = found["items"][-1]
    assert [item["video"] for item in found["items"]] == ["one.mp4", "two.mp4", "two.mp4"]
    asked = "\n".join(["And then?", "A. a square", "B. a disc", "C. a ring", INSTRUCTION])
    for mode in ("coarse", "parallel", "stream"):
        values = by_hand(run, "two", asked, "ABC", mode, end=False)
        assert third["chosen"][mode] == values.argmax()
    assert "what seeing adds, stream" in capsys.readouterr().out


def test_options_in_every_order_stand_at_every_letter(run, videos, tmp_path):
    """What the averaged orders choose is what the orders' likelihoods say, turned back to the list's order."""
    (videos / "list.json").write_text(json.dumps(QUESTIONS[2:3]))
    found = evaluated(run, videos / "list.json", tmp_path, "--modes", "stream", "--questions", 2)
    total = np.zeros(3)
    places = []
    for order in range(3):
        listed = [*OPTIONS[order:], *OPTIONS[:order]]
        lines = [f"{letter}. {option}" for letter, option in zip("ABC", listed, strict=True)]
        values = by_hand(run, "two", "\n".join(["And then?", *lines, INSTRUCTION]), "ABC", "stream", end=False)
        places.append("ABC"[values.argmax()])
        for option, value in zip(listed, values, strict=True):
            total[OPTIONS.index(option)] += value
    letters = found["letters"]["stream"]
    assert letters["averaged"]["correct"] == int(total.argmax() == 2)
    assert letters["chosen"] == {place: places.count(place) / 3 for place in sorted(set(places))}


def test_multiple_choice_by_the_options_own_words(run, videos, tmp_path):
    (videos / "list.json").write_text(json.dumps(QUESTIONS[:1]))
    options = ("--answer", "texts", "--controls", "False", "--modes", "coarse", "stream")
    found = evaluated(run, videos / "list.json", tmp_path, *options)
    assert list(found["accuracy"]) == list(found["accuracy_by_sum"]) == ["coarse", "stream"]
    assert "letters" not in found
    assert "seeing" not in found
    values = by_hand(run, "one", "What is it?", OPTIONS, "stream", end=True)
    assert found["items"][0]["chosen"]["stream"] == values.argmax()
    assert found["ce"]["stream"]["ce"] == pytest.approx(-values[1], rel=1e-4)


def test_what_is_written_about_videos(run, videos, tmp_path, capsys):
    talk = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "a square"}]
    written = [{"file": "one.mp4", "caption": "it moves"}, {"file": "two.mp4", "conversations": talk}]
    (videos / "captions.json").write_text(json.dumps(written))
    found = evaluated(run, videos, tmp_path, "--modes", "stream", "coarse", "parallel")
    assert found["questions"] == 2
    assert list(found["answers"]) == ["stream", "coarse", "parallel", "no frames"]
    assert list(found["ratios"]) == ["stream", "parallel"]
    ce = {name: one["all"]["ce"] for name, one in found["answers"].items()}
    whole = [
        by_hand(run, "one", "Describe the video.", ["it moves"], mode, end=True)[0] for mode in ("stream", "coarse")
    ]
    other = [by_hand(run, "two", "What is it?", ["a square"], mode, end=True)[0] for mode in ("stream", "coarse")]
    assert [ce["stream"], ce["coarse"]] == pytest.approx(
        [-(a + b) / 2 for a, b in zip(whole, other, strict=True)], rel=1e-4
    )
    assert found["ratios"]["stream"]["ratio"] == pytest.approx(ce["coarse"] / ce["stream"])
    assert "cross-entropy per token" in capsys.readouterr().out


def test_the_run_decides_which_options_there_are(run, capsys):
    with pytest.raises(SystemExit):
        door.main([str(run), "--help"])
    said = capsys.readouterr().out
    assert "--modes" in said
    assert "--neighbours" not in said
    with pytest.raises(SystemExit):
        door.main(["--help"])
    assert "--neighbours" in capsys.readouterr().out
    assert {"run", "data", "out"} <= {field.name for field in dataclasses.fields(AnswersConfig)}


@pytest.mark.parametrize(
    ("kind", "option", "said"),
    [
        ("list.json", ("--data.labels", "x.csv"), "--data.labels is for videos about which something is written"),
        ("list.json", ("--prompt", "What?"), "--prompt is for videos about which something is written"),
        (".", ("--data.videos", "x"), "--data.videos is for lists of questions with options"),
        (".", ("--answer", "texts"), "--answer is for lists of questions with options"),
    ],
)
def test_options_that_do_nothing_are_refused(run, videos, tmp_path, kind, option, said, capsys):
    entries = QUESTIONS if kind == "list.json" else [{"file": "one.mp4", "caption": "it moves"}]
    (videos / ("list.json" if kind == "list.json" else "captions.json")).write_text(json.dumps(entries))
    assert door.main([str(run), "--data.path", str(videos / kind), "--out", str(tmp_path / "x.json"), *option]) == 2
    assert said in capsys.readouterr().err


def test_stored_rows_of_another_tokenizer_are_refused_and_long_texts_are_counted(run, tmp_path, capsys):
    words = {"user": "What is it?", "assistant": "a square"}
    with ShardWriter(tmp_path / "shards", "videos") as writer:
        for number in range(4):
            extra = {**words, "token_ids": [5, 901, 906, 907, 908], "loss_mask": [0, 0, 1, 1, 1]}
            writer.add(f"{number}", ".mp4", encode(3 + number), extra=extra)
    save_dataset(tmp_path / "shards", writer.dataset())
    assert door.main([str(run), "--data.path", str(tmp_path / "shards"), "--out", str(tmp_path / "x.json")]) == 2
    assert "are what the model's tokenizer makes of their text" in capsys.readouterr().err
    options = ("--data.token-ids", "False", "--modes", "coarse", "--controls", "False")
    found = evaluated(run, tmp_path / "shards", tmp_path, *options)
    assert found["questions"] == 4
    assert found["cut"] == 0


@pytest.mark.parametrize("name", ["captions.json", "list.json"])
def test_videos_that_cannot_be_read_are_no_result(run, videos, tmp_path, name, capsys):
    entries = {"captions.json": [{"file": "bad.mp4", "caption": "it moves"}], "list.json": QUESTIONS[3:4]}
    (videos / name).write_text(json.dumps(entries[name]))
    assert door.main([str(run), "--data.path", str(videos / name), "--out", str(tmp_path / "x.json")]) == 2
    assert f"none of the videos of {videos / name} can be used" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [("nowhere", "no data at"), (".", "captions or conversations are expected"), ("bad.json", "bad.json is no JSON")],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(run, videos, tmp_path, path, said, capsys):
    (videos / "bad.json").write_text("[{" if path == "bad.json" else "{}")
    assert door.main([str(run), "--data.path", str(videos / path), "--out", str(tmp_path / "x.json")]) == 2
    assert said in capsys.readouterr().err


def test_a_model_that_sees_is_told_from_one_that_guesses(tmp_path, capsys):
    """Taught which of two videos shows hues and which bars, a model is right; without the video, about one of them."""
    question, options = "What is it?", ["hues", "bars"]
    clips, talks = [], []
    for name in options:
        data = encode(3, coloured=name == "hues")
        (tmp_path / f"{name}.mp4").write_bytes(data)
        clips.append(torch.from_numpy(decode_view(data, VIEWS.center(name, probe(data)))))
        talks.append(ClipText([Conversation((Turn(question, name),))], (0, 1, 2)))
    config = ModelConfig(init="tiny", tiny_width=32, tiny_layers=1, tiny_heads=2)
    model, tokenizer = open_model(config, size=32, texts=[question, *options])
    extra = TextCollator(ChatFormat(tokenizer), TextChoice())(talks, 3)
    ids = torch.arange(2)
    batch = Batch(keys=options, ids=ids, view_hashes=ids, clips=torch.stack(clips), extra=extra)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss, _ = TextLoss("stream", LossConfig())(model, batch, 0)
        loss.mean.backward()
        optimizer.step()
    about = {"views": dataclasses.asdict(VIEWS), "max_fps": None, "question": question, "mode": "stream"}
    save(tmp_path / "run" / "model", model.eval(), tokenizer, about)
    entries = [{"video": f"{n}.mp4", "question": question, "candidates": options, "answer": n} for n in options]
    (tmp_path / "list.json").write_text(json.dumps(entries))
    options = ("--answer", "texts", "--modes", "stream", "coarse")
    found = evaluated(tmp_path / "run", tmp_path / "list.json", tmp_path, *options)
    right = {condition: one["all"]["correct"] for condition, one in found["accuracy"].items()}
    assert right == {"stream": 2, "coarse": 2, "no frames": 1}
    assert found["seeing"]["stream"]["gain"] == 0.5
    assert found["ce"]["stream"]["ce"] < 0.1 < found["ce"]["no frames"]["ce"]
    assert "100.0 [34.2, 100.0]" in capsys.readouterr().out
