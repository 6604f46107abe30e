"""Answers: what is generated is what the model would say, with one frame in memory, and it ends."""

import dataclasses

import pytest
import torch

from fastvid.data import Batch, ChatFormat
from fastvid.data.text.conversation import Conversation, Turn
from fastvid.projects.fvlm.generate import Answer
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.loss import TextLoss
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.open_model import open_model

QUESTION = "Read the tile that is red"
ANSWERS = ("A B C", "D E")


@pytest.fixture(scope="module")
def taught():
    """A model that was taught to say one thing of each of two clips, and the batch that taught it."""
    config = ModelConfig(init="tiny", tiny_width=32, tiny_layers=1, tiny_heads=2)
    model, tokenizer = open_model(config, size=32, texts=[QUESTION, *ANSWERS])
    chat = ChatFormat(tokenizer)
    before, front = chat.prompt(QUESTION)
    talks = [chat.row(Conversation((Turn(QUESTION, answer),))) for answer in ANSWERS]
    width = max(len(talk.after) for talk in talks)
    after, mask = torch.zeros(2, 1, width, dtype=torch.int64), torch.zeros(2, 1, width, dtype=torch.bool)
    labels = torch.full_like(after, -100)
    for row, talk in enumerate(talks):
        after[row, 0, : len(talk.after)] = torch.tensor(talk.after)
        mask[row, 0, : len(talk.after)] = True
        labels[row, 0, : len(talk.after)] = torch.tensor(talk.labels)
    clips = torch.randint(256, (2, 3, 32, 32, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    ids = torch.arange(2)
    extra = {
        "frames": torch.ones(2, 3, dtype=torch.bool), "questions": torch.ones(2, 1, dtype=torch.bool),
        "before": torch.tensor(before).expand(2, 1, -1), "before_mask": torch.ones(2, 1, len(before), dtype=torch.bool),
        "after": after, "after_mask": mask, "labels": labels,
    }  # fmt: skip
    batch = Batch(keys=["a", "b"], ids=ids, view_hashes=ids, clips=clips, extra=extra)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss, _ = TextLoss("stream", LossConfig())(model, batch, 0)
        loss.mean.backward()
        optimizer.step()
    return model.eval(), chat, Inputs.of(batch), (before, front)


def answer(taught, clip, frames=None, **options):
    model, chat, inputs, (before, front) = taught
    found = Answer(model, chat, before, front, **options)
    return found, list(found.about(inputs.clips[clip] if frames is None else frames))


@pytest.mark.parametrize("mode", ["coarse", "parallel", "stream"])
def test_a_still_image_is_encoded_once_however_often_it_is_looked_at(taught, mode, monkeypatch):
    model, chat, inputs, (before, front) = taught
    frame, encode, encoded = inputs.clips[0, :1], model.encode, []
    monkeypatch.setattr(model, "encode", lambda clips: encoded.append(clips.shape[1]) or encode(clips))
    copies, still = (Answer(model, chat, before, front, mode=mode, look=True) for _ in range(2))
    assert list(still.about(frame, looks=3)) == list(copies.about(frame.expand(3, -1, -1, -1)))
    assert encoded == [1] + 3 * [1]
    assert len(still.attention) == 3
    for one, other in zip(still.attention, copies.attention, strict=True):
        for ours, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_the_end_is_learnt_and_generation_stops_there(taught):
    for clip, expected in enumerate(ANSWERS):
        found, pieces = answer(taught, clip)
        assert found.text == "".join(pieces) == expected.lower()
        assert len(pieces) == len(expected.split())  # word by word
        assert found.ended
        assert len(found.ids) == len(expected.split())


def test_an_answer_is_cut_off_at_the_most_tokens(taught):
    found, _ = answer(taught, 0, most=2)
    assert (found.text, found.ended) == ("a b", False)


@pytest.mark.parametrize(("mode", "iterations"), [("coarse", 1), ("parallel", 1), ("parallel", 3), ("stream", 1)])
def test_what_is_generated_is_what_the_model_predicts(taught, mode, iterations, monkeypatch):
    model, _, inputs, (_, front) = taught
    monkeypatch.setattr(model, "config", dataclasses.replace(model.config, iterations=iterations))
    found, _ = answer(taught, 1, mode=mode, look=True)
    told = [*front, *found.ids, model.language.ends.copy().pop()]
    rows = {name: x[1:] for name, x in vars(inputs).items() if x is not None}
    after = torch.tensor(told)[None, None]
    rows |= {"after": after, "after_mask": torch.ones_like(after, dtype=torch.bool)}
    rows["labels"] = torch.where(torch.arange(len(told)) < len(front), -100, after)
    out = model(Inputs(**rows), mode, look=True)
    assert out.right[: len(found.ids)].all()
    assert bool(out.right[-1]) == found.ended
    for layer, attention in enumerate(out.attention):
        used = torch.stack([frame[layer] for frame in found.attention])
        torch.testing.assert_close(used, attention[0, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.stack(found.entropy, 1), out.entropy[:, 0, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mode", "iterations"), [("coarse", 1), ("parallel", 2), ("stream", 1)])
@pytest.mark.parametrize("aim", ["text", "frames"])
def test_a_model_with_marks_generates_what_it_predicts(taught, mode, iterations, aim):
    _, chat, inputs, (before, front) = taught
    config = ModelConfig(
        init="tiny", tiny_width=32, tiny_layers=1, tiny_heads=2, marks=True, aim=aim, first_query="learnt",
        iterations=iterations,
    )  # fmt: skip
    model = open_model(config, size=32, texts=[QUESTION, *ANSWERS])[0].eval()
    found = Answer(model, chat, before, front, mode=mode, most=3, look=True)
    list(found.about(inputs.clips[0]))
    told = torch.tensor([*front, *found.ids])[None, None]
    rows = {name: x[:1] for name, x in vars(inputs).items() if x is not None}
    rows |= {"after": told, "after_mask": torch.ones_like(told, dtype=torch.bool)}
    rows["labels"] = torch.where(torch.arange(told.shape[-1]) < len(front), -100, told)
    out = model(Inputs(**rows), mode, look=True)
    assert found.ids == out.logits.argmax(-1).tolist()
    used = torch.stack([frame[0] for frame in found.attention])
    torch.testing.assert_close(used, out.attention[0][0, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["coarse", "stream"])
def test_frames_are_taken_one_at_a_time(taught, mode):
    model, _, inputs, _ = taught
    events = []
    encode = model.encoder.encode

    def frames():
        for number, frame in enumerate(inputs.clips[0]):
            events.append(f"frame {number}")
            yield frame

    model.encoder.encode = lambda clips: events.append(f"encode {tuple(clips.shape[:2])}") or encode(clips)
    try:
        answer(taught, 0, frames(), mode=mode)
    finally:
        model.encoder.encode = encode
    assert events == [event for number in range(3) for event in (f"frame {number}", "encode (1, 1)")]


def test_nothing_to_answer_is_refused(taught):
    model, chat, _, _ = taught
    with pytest.raises(ValueError, match="no text and no frame"):
        list(Answer(model, chat, [], []).about([]))
