"""Still images, texts without a video, and rows that were tokenized before: indexed, checked, and put into batches."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from fastvid.data import (
    BadSamplePolicy,
    ChatFormat,
    DecodeOptions,
    EpochSampler,
    PaddedDraws,
    PaddedEvaluation,
    Quarantine,
    TextChoice,
    TextCollator,
    TrainLoader,
    eval_batches,
    open_described,
    open_source,
)  # fmt: skip
from fastvid.data.__main__ import main
from fastvid.data.shards.dataset_json import load_dataset
from fastvid.data.text.chat import IGNORED
from fastvid.data.text.conversation import Conversation, TokenRow, Turn, conversations_of, is_text_alone
from fastvid.data.text.rows import ClipText
from fastvid.video import DecodeError, ViewSpec
from tests.data.chatting import TEMPLATE, tokenizer

SPEC = ViewSpec(frames=4, size=16, scale=(1, 1), ratio=(1, 1), flip=0.0)
TOKENS = tokenizer("what is this a cat dog one two three")
CHAT = ChatFormat(TOKENS)
BPE_MERGES = [("a", "b"), ("ab", "c")]
ASK = {"user": "what is this", "assistant": "a cat"}


def picture(number: int, size: int = 16) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (size, size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_tar(path, members: dict[str, bytes | dict]) -> None:
    """Write a tar; a dictionary becomes a json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path):
    """One shard with a video of three pictures, two still images and two texts."""
    members = {f"v.{number:03d}.png": picture(number) for number in range(3)}
    members |= {"v.json": {**ASK, "frame_count": 3}, "w.000.png": picture(7), "w.json": {**ASK, "frame_count": 1}}
    members |= {"x.png": picture(8), "x.json": {"caption": "a dog"}, "y.json": {**ASK, "source": "smoltalk"}}
    members |= {"z.json": {"token_ids": [1, 5, 4, 9, 2], "loss_mask": [0, 0, 0, 1, 1], "frame_count": 0}}
    write_tar(tmp_path / "shards" / "s-000000.tar", members)
    return tmp_path / "shards"


def test_each_sample_has_its_kind_in_the_index_and_after_packing(shards, tmp_path, capsys):
    kinds = {"v": "video", "w": "image", "x": "image", "y": "text", "z": "text"}
    assert main(["index", str(shards)]) == 0
    assert main(["check", str(shards)]) == 0
    out = tmp_path / "out"
    assert main(["pack", str(shards), "--out", str(out), "--format", "webdataset", "--jobs", "0"]) == 0
    assert main(["check", str(out)]) == 0
    for folder in (shards, out):
        source = open_described(folder)
        assert {sample.key[-1]: sample.kind for sample in source.samples} == kinds
        row = next(index for index, sample in enumerate(source.samples) if sample.key.endswith("z"))
        assert source.fields(row)["token_ids"] == [1, 5, 4, 9, 2]
        dataset = load_dataset(folder)
        assert (dataset.codecs, dataset.described) == ({"pictures": 3, "text": 2}, 4)
        capsys.readouterr()
        assert main(["info", str(folder), "--seconds", "0"]) == 0
        assert "1 with a caption, 4 with conversations or other fields" in capsys.readouterr().out


def test_a_text_is_no_video(shards):
    source = open_source(shards)
    index = next(index for index, sample in enumerate(source.samples) if sample.kind == "text")
    quarantine = Quarantine()
    assert not list(eval_batches(source, [index], PaddedEvaluation(SPEC), batch=1, quarantine=quarantine))
    (bad,) = quarantine.bad.values()
    assert bad["detail"] == "it is a text without a video"


def test_texts_and_images_among_videos_are_rows_with_fewer_frames(shards):
    """Where nothing sorts the samples by kind, a batch may hold all of them."""
    source = open_source(shards)
    with TrainLoader(
        source, PaddedDraws(SPEC, 0), EpochSampler(source.shard_sizes, batch=5, seed=0),
        options=DecodeOptions(threads=2), text=TextCollator(CHAT),
    ) as loader:  # fmt: skip
        batch = next(loader)
    shown = {key[-1]: int(real.sum()) for key, real in zip(batch.keys, batch.extra["frames"], strict=True)}
    assert shown == {"v": 3, "w": 1, "x": 1, "y": 0, "z": 0}
    texts = [slot for slot, key in enumerate(batch.keys) if key[-1] in "yz"]
    assert not batch.clips[texts].any()
    assert batch.extra["questions"].all()
    assert [text.kind for text in batch.text].count("text") == 2


def test_images_of_a_test_are_batches_of_their_own_and_looked_at_several_times(shards):
    source = open_source(shards)
    rows = [index for index, sample in enumerate(source.samples) if sample.kind != "text"]
    collate = TextCollator(CHAT, looks=3)
    made = list(eval_batches(source, rows, PaddedEvaluation(SPEC), batch=4, quarantine=Quarantine(), text=collate))
    assert [tuple(batch.clips.shape[:2]) for batch in made] == [(1, 4), (2, 1)]
    assert made[1].extra["frames"].tolist() == [[True] * 3] * 2
    assert made[1].extra["truth"].shape == (2, 1, 3)


def test_rows_of_a_batch_of_images_and_of_texts():
    talk = Conversation((Turn("what", "a cat"),), gaze=(5,))
    images = TextCollator(CHAT, looks=4)([ClipText([talk], (0,), kind="image"), ClipText([], ())], 1)
    assert images["frames"].tolist() == [[True] * 4, [False] * 4]
    assert images["truth"][0, 0].tolist() == [5] * 4
    texts = TextCollator(CHAT, looks=4)([ClipText([talk], (), kind="text")], 0)
    assert texts["frames"].shape == (1, 0)
    assert texts["labels"][texts["labels"] >= 0].tolist() == TOKENS.encode("a cat <|end|>")
    # Nothing predicts the first token of a row without frames.
    bare = Conversation((), tokens=TokenRow((9, 10, 11), (True,) * 3))
    row = TextCollator(CHAT)([ClipText([bare], (), kind="text")], 0)
    assert [row[name][row[f"{name}_mask"]].tolist() for name in ("before", "after")] == [[9], [10, 11]]
    assert row["labels"][row["labels"] >= 0].tolist() == [10, 11]


@pytest.mark.parametrize(
    ("fields", "alone"),
    [
        (ASK, True),
        ({"conversations": [{"from": "human", "value": "what"}, {"from": "gpt", "value": "a"}]}, True),
        ({"token_ids": [1], "frame_count": 0}, True),
        ({"token_ids": [1], "frame_count": 8}, False),
        ({"caption": "a cat"}, False),
        ({**ASK, "video": "a.mp4"}, False),
        ({**ASK, "videoID": "fFjv93ACGo8"}, False),
        ({"conversations": [{"from": "human", "value": "<image>\nwhat"}, {"from": "gpt", "value": "a"}]}, False),
        ({}, False),
    ],
)
def test_a_text_alone_is_one_that_nothing_is_missing_of(fields, alone):
    assert is_text_alone(fields) == alone


def test_a_row_that_was_tokenized_before_stays_as_it_is():
    ids = TOKENS.encode("<|start|> user \n what is this <|end|> \n <|start|> assistant \n a cat <|end|> \n")
    learnt = [False] * (len(ids) - 4) + [True] * 3 + [False]
    row = TokenRow(tuple(ids), tuple(learnt))
    assert CHAT.knows(row)
    labels = [one if on else IGNORED for one, on in zip(ids, learnt, strict=True)]
    first = ChatFormat(TOKENS, layout="video-first").row(Conversation((), tokens=row))
    assert (first.before, first.after, first.labels) == ([], ids, labels)
    # Behind the question it is what the template itself makes of the text.
    made, said = CHAT.row(Conversation((), tokens=row)), CHAT.row(Conversation((Turn("what is this", "a cat"),)))
    assert (made.before, made.after, made.labels) == (said.before, said.after, said.labels)
    asked, said = CHAT.asked(Conversation((), tokens=row)), CHAT.asked(Conversation((Turn("what is this", "a cat"),)))
    assert (asked.before, asked.after, asked.answer) == (said.before, said.after, said.answer)
    assert "what is this" in asked.question
    # Where nothing leads from a question to what is learnt, the frames come first.
    caption = CHAT.row(Conversation((), tokens=TokenRow((9, 10), (True, True))))
    assert (caption.before, caption.after, caption.labels) == ([], [9, 10], [9, 10])


def test_ids_of_another_tokenizer_are_known_by_their_text():
    """A tokenizer that joins letters never spells a text in the letters that it would join."""
    core = Tokenizer(models.BPE({letter: place for place, letter in enumerate([*"abcdef", "ab", "abc"])}, BPE_MERGES))
    words = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", chat_template=TEMPLATE)
    chat = object.__new__(ChatFormat)
    chat.tokenizer = words
    for ids, known in (([7, 3], True), ([6, 3], True), ([0, 1, 3], False), ([7, 3, 99], False)):
        assert chat.knows(TokenRow(tuple(ids), (True,) * len(ids))) == known
    assert CHAT.knows(TokenRow((1, 5, 4), (True,) * 3))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"token_ids": []}, "its token_ids are not a list of token ids"),
        ({"token_ids": [1, -2]}, "its token_ids are not a list of token ids"),
        ({"token_ids": [1, 2], "loss_mask": [1]}, "its loss_mask is not a list of 2 zeros and ones"),
        ({"token_ids": [1, 2], "loss_mask": [1, 0.5]}, "its loss_mask is not a list of 2 zeros and ones"),
        ({"token_ids": [1, 2], "loss_mask": [0, 0]}, "there is nothing to learn"),
        ({"token_ids": [1, 99]}, "its token id 99 is not one of 17 of the tokenizer"),
    ],
)
def test_rows_of_tokens_that_cannot_be_used(fields, sentence):
    with pytest.raises(DecodeError, match=sentence) as error:
        TextCollator(CHAT).choice.take(fields, None, "key", 0)
    assert error.value.reason == "text"


def test_tokens_go_before_words_unless_words_are_asked_for():
    fields = {**ASK, "token_ids": [1, 2], "loss_mask": [0, 1]}
    assert conversations_of(fields)[0].tokens == TokenRow((1, 2), (False, True))
    (words,) = TextChoice(tokens=False).take(fields, None, "key", 0)
    assert words.turns == (Turn("what is this", "a cat"),)


def test_a_text_that_cannot_be_used_is_named(shards):
    source = open_source(shards)
    text = TextCollator(ChatFormat(tokenizer("a")))
    quarantine = Quarantine(policy=BadSamplePolicy(files=5))
    with TrainLoader(
        source, PaddedDraws(SPEC, 0), EpochSampler(source.shard_sizes, batch=5, seed=0),
        options=DecodeOptions(threads=1), text=text, quarantine=quarantine,
    ) as loader:  # fmt: skip
        next(loader)
    assert [key[-1] for key in quarantine.bad] == ["z"]
