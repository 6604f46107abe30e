"""Lists of conversations and captions: read beside videos, and packed with every turn of every conversation."""

import json
import re
import tarfile

import pytest

from fastvid.data import (
    DecodeOptions,
    EpochSampler,
    PaddedDraws,
    Quarantine,
    ShardWriter,
    TextCollator,
    TrainLoader,
    by_kind,
    open_described,
    open_source,
)  # fmt: skip
from fastvid.data.__main__ import main
from fastvid.data.pack.llava import llava
from fastvid.data.text.chat import ChatFormat
from fastvid.data.text.conversation import conversations_of
from fastvid.data.text.lists import read_list
from fastvid.video import ViewSpec
from tests.data.chatting import tokenizer
from tests.data.packing import pack_folder
from tests.data.test_kinds import picture
from tests.video.clips import encode

VIDEO = encode(12)
SPEC = ViewSpec(frames=4, size=16, scale=(1, 1), ratio=(1, 1), flip=0.0)


def _talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": "gpt" if number % 2 else "human", "value": text} for number, text in enumerate(texts)]


def _videos(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(VIDEO)


def _all(path):
    without = []
    return [(entry.video, entry.fields) for entry in read_list(path, without.append)], without


def test_forms_of_lists(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"video": "x/../a.mp4", "n": 1}, {"video": ["b.mp4"], "n": 2}]))
    (tmp_path / "b.jsonl").write_text('{"file": "a.mp4", "caption": "one"}\n\n{"video_path": "b.mp4"}\n')
    (tmp_path / "c.json").write_text(json.dumps({"a.mp4": "one", "b.mp4": "two"}))
    assert [video for video, _ in _all(tmp_path / "a.json")[0]] == ["a.mp4", "b.mp4"]
    assert [video for video, _ in _all(tmp_path / "b.jsonl")[0]] == ["a.mp4", "b.mp4"]
    assert [fields["caption"] for _, fields in _all(tmp_path / "c.json")[0]] == ["one", "two"]


def test_conversations_without_a_video_are_named(tmp_path):
    path = tmp_path / "a.json"
    several = {"video": ["a.mp4", "b.mp4"], "conversations": []}
    path.write_text(json.dumps([{"conversations": _talk("<video>q", "a")}, {"caption": "a"}, several]))
    assert _all(path)[1] == [f"{path}, entry 1", f"{path}, entry 2", f"{path}, entry 3"]
    sentence = "names no video; left out: 3 conversations without a video, or about several, such as .*, entry 1"
    with pytest.raises(ValueError, match=sentence):
        llava(path)
    with pytest.raises(ValueError, match=sentence):
        open_described(path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "a.jsonl",
            '{"file": "a.mp4", "caption": "x"}\n{"file": "b.mp4",\n',
            "a.jsonl, line 2, is no JSON: .* at column",
        ),
        ("a.jsonl", "[1]\n", "a.jsonl, line 1: not a conversation"),
        ("a.json", "[", "a.json is no JSON: .* at line 1, column 2"),
        ("a.json", '{"a": 1}', "a.json: a list of conversations is expected"),
        ("a.json", '[{"video": "a.mp4", "caption": "one"}, 3]', "a.json, entry 2: not a conversation: 3"),
    ],
)
def test_broken_lists_are_said_with_file_and_line(tmp_path, capsys, name, content, sentence):
    _videos(tmp_path, "a.mp4")
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=sentence) as error:
        open_described(tmp_path / name)
    assert "\n" not in str(error.value)
    assert main(["pack", str(tmp_path), "--out", str(tmp_path / "out"), "--format", "llava"]) == 2
    assert re.search(sentence, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_every_turn_of_every_conversation_is_packed(tmp_path):
    src = tmp_path / "src"
    _videos(src, "v/a.mp4", "v/b.mp4")
    entries = [
        {"video": "v/a.mp4", "conversations": _talk("<image>\nwhat is this", "a cat", "really", "yes")},
        {"video": "v/a.mp4", "conversations": _talk("what <video>", "it is")},
        {"video": ["v/b.mp4"], "question": "what", "answer": "yes it is"},
        {"id": 7, "conversations": _talk("hello", "hello")},
    ]
    (src / "qa.json").write_text(json.dumps(entries))
    (src / "cap.jsonl").write_text(json.dumps({"file": "v/b.mp4", "caption": "a dog", "label": "dog"}))
    collection = llava(src)[""]
    assert collection.notes == [
        f"left out: 1 conversation without a video, or about several, such as {src}/qa.json, entry 4"
    ]
    pack_folder(None, tmp_path / "out", collection=collection)
    source = open_source(tmp_path / "out")
    found = {sample.key.split("/")[-1]: index for index, sample in enumerate(source.samples)}
    a, b = found["a"], found["b"]
    assert (source.samples[a].caption, source.samples[b].caption) == ("a cat", "a dog")
    assert (source.samples[a].label, source.samples[b].label) == (None, "dog")
    turns = [
        [(turn.question, turn.answer) for turn in conversation.turns]
        for conversation in conversations_of(source.fields(a), source.samples[a].caption)
    ]
    assert turns == [[("what is this", "a cat"), ("really", "yes")], [("what", "it is")]]
    (pair,) = conversations_of(source.fields(b), source.samples[b].caption)
    assert (pair.turns[0].question, pair.turns[0].answer) == ("what", "yes it is")


def test_conversations_that_make_no_sense_are_left_out_counted_and_one_is_named(tmp_path):
    _videos(tmp_path, "a.mp4", "b.mp4")
    wrong = [{"video": "a.mp4", "conversations": talk} for talk in (_talk("q", "a", "q"), _talk("q", " "))]
    right = {"video": "b.mp4", "conversations": _talk("q", "a")}
    path = tmp_path / "qa.json"
    path.write_text(json.dumps([*wrong, right]))
    found = llava(tmp_path)[""]
    (note,) = found.notes
    assert note == (
        f"left out: 2 conversations in which questions and answers do not belong together, such as {path}, entry 1, "
        "about a.mp4: turn 3 of a conversation: a question and its answer are expected, and there is human"
    )
    assert {item.key: (item.caption, dict(item.extra)) for item in found.items} == {
        "a": (None, {}), "b": ("a", {"conversations": [_talk("q", "a")]}),
    }  # fmt: skip
    path.write_text(json.dumps([{"video": "a.mp4", "conversations": [1]}]))
    with pytest.raises(ValueError, match=r"qa.json, entry 1, about a.mp4: its conversations are not"):
        llava(tmp_path)


def test_a_listed_video_that_is_missing_is_rejected_by_name(tmp_path):
    _videos(tmp_path / "src", "a.mp4")
    (tmp_path / "src" / "captions.json").write_text(json.dumps({"a.mp4": "one", "b.mp4": "two"}))
    outcome = pack_folder(None, tmp_path / "out", collection=llava(tmp_path / "src")[""])
    assert outcome.rejects == {"read": 1}
    (line,) = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert (line["key"], line["detail"]) == ("b", "there is no such file")


def test_neither_videos_nor_archives(tmp_path):
    (tmp_path / "captions.json").write_text(json.dumps({"a.mp4": "one"}))
    with pytest.raises(FileNotFoundError, match="found 1 lists, 1 names, 0 of these videos and 0 archives"):
        llava(tmp_path)


def _loaded(source, count):
    chat = ChatFormat(tokenizer("what is this a cat one two Describe the video."))
    sampler = EpochSampler(source.shard_sizes, batch=1, seed=0)
    quarantine = Quarantine()
    spec = ViewSpec(frames=2, size=16)
    with TrainLoader(
        source, PaddedDraws(spec, 0), sampler, options=DecodeOptions(threads=1), quarantine=quarantine,
        text=TextCollator(chat),
    ) as loader:  # fmt: skip
        return [next(loader) for _ in range(count)], quarantine


def test_a_folder_of_videos_with_a_list_of_captions(tmp_path):
    """What is not listed is left out, whatever it is; what is listed and missing is quarantined by name."""
    _videos(tmp_path, "a.mp4", "b.mp4", "unlisted.mp4")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.tar").write_bytes(b"")
    entries = [
        {"file": "a.mp4", "label": "x", "caption": "one"},
        {"file": "b.mp4", "conversations": _talk("what is this", "a cat")},
        {"file": "c.mp4", "caption": "two"},
    ]
    (tmp_path / "captions.json").write_text(json.dumps(entries))
    source = open_described(tmp_path)
    assert [(s.key, s.label, s.caption) for s in source.samples] == [
        ("a.mp4", "x", "one"), ("b.mp4", None, None), ("c.mp4", None, "two"),
    ]  # fmt: skip
    assert source.classes() == ["x"]
    batches, quarantine = _loaded(source, 3)
    said = {b.keys[0]: b.text[0].conversations[0].turns[0] for b in batches}
    assert (said["a.mp4"].question, said["a.mp4"].answer) == ("Describe the video.", "one")
    assert (said["b.mp4"].question, said["b.mp4"].answer) == ("what is this", "a cat")
    assert {key: bad["reason"] for key, bad in quarantine.bad.items()} == {"c.mp4": "read"}


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([{"file": "../a.mp4", "caption": "x"}], "entry 1: ../a.mp4 is not below the folder of the list"),
        ([{"file": "a.mp4", "caption": "x"}] * 2, "entry 2: a.mp4 is listed before"),
    ],
)
def test_lists_beside_videos_that_make_no_sense(tmp_path, entries, sentence):
    _videos(tmp_path, "a.mp4")
    (tmp_path / "captions.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=sentence):
        open_described(tmp_path)


def test_several_conversations_about_one_listed_video(tmp_path):
    _videos(tmp_path, "a.mp4")
    entries = [{"video": "a.mp4", "conversations": _talk("what", answer)} for answer in ("one", "two")]
    (tmp_path / "captions.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries))
    source = open_described(tmp_path)
    assert [c.turns[0].answer for c in conversations_of(source.fields(0))] == ["one", "two"]


def test_shards_in_which_something_is_written_about_some_videos(tmp_path, caplog):
    with ShardWriter(tmp_path / "some", "s") as writer:
        writer.add("0", ".mp4", VIDEO, caption="one")
        writer.add("1", ".mp4", VIDEO, label="x")
        writer.add("2", ".mp4", VIDEO, extra={"conversations": _talk("what", "two")})
    source = open_described(tmp_path / "some")
    assert [sample.key for sample in source.samples] == ["s-000000/0", "s-000000/2"]
    assert source.fields(1)["conversations"] == _talk("what", "two")
    assert "1 of 3 videos in 1 tar shards" in caplog.text


def test_a_folder_about_which_nothing_is_written(folder):
    with pytest.raises(ValueError, match="nothing is written about any of the 20 video files"):
        open_described(folder)


def test_images_and_texts_of_lists_are_read_and_packed(tmp_path):
    """Lists as those of LLaVA-OneVision have videos, images and texts in one."""
    src = tmp_path / "src"
    _videos(src, "v/a.mp4")
    (src / "i").mkdir()
    (src / "i" / "b.jpg").write_bytes(picture(3))
    entries = [
        {"video": "v/a.mp4", "conversations": _talk("<image>\nwhat is this", "a cat")},
        {"image": "i/b.jpg", "conversations": _talk("<image>\nwhat", "a dog")},
        {"id": 7, "conversations": _talk("hello", "hello you")},
    ]
    (src / "mixed.json").write_text(json.dumps(entries))
    read = open_described(src / "mixed.json")
    pack = ["pack", str(src), "--format", "llava", "--texts", "--jobs", "0", "--out"]
    assert main([*pack, str(tmp_path / "out")]) == 0
    assert main([*pack, str(tmp_path / "small"), "--transcode"]) == 0  # an image stays as it is
    packed, small = open_described(tmp_path / "out"), open_described(tmp_path / "small")
    for source in (read, packed, small):
        said = {
            sample.kind: conversations_of(source.fields(index), sample.caption)[0].turns[0].answer
            for index, sample in enumerate(source.samples)
        }
        assert said == {"video": "a cat", "image": "a dog", "text": "hello you"}
    source, parts = by_kind(read)
    assert list(parts) == ["video", "image", "text"]
    with TrainLoader(
        parts["image"], PaddedDraws(SPEC, 0), EpochSampler(parts["image"].shard_sizes, batch=1, seed=0),
        text=TextCollator(ChatFormat(tokenizer("what a dog"))),
    ) as loader:  # fmt: skip
        assert next(loader).extra["frames"].tolist() == [[True, False, False, False]]


def test_a_list_of_texts_alone_is_a_source(tmp_path):
    (tmp_path / "text.jsonl").write_text(
        "\n".join(json.dumps({"user": f"what {n}", "assistant": "a"}) for n in range(3))
    )
    source = open_described(tmp_path / "text.jsonl")
    assert [sample.kind for sample in source.samples] == ["text"] * 3
    assert conversations_of(source.fields(2))[0].turns[0].question == "what 2"
    assert source.description == f"3 texts in {tmp_path / 'text.jsonl'}"


def test_texts_of_archives_are_packed_behind_the_videos(tmp_path):
    src = tmp_path / "0_30_s_academic_v0_1"
    _videos(src, "academic_source/a.mp4")
    with tarfile.open(src / "0_30_s_academic_v0_1_videos_1.tar.gz", "w:gz") as tar:
        tar.add(src / "academic_source" / "a.mp4", "academic_source/a.mp4")
    (src / "academic_source" / "a.mp4").unlink()
    video = {"video": "academic_source/a.mp4", "data_source": "0_30_s_academic_v0_1"}
    for name, answer in (("cap", "a cat"), ("oe_qa", "yes"), ("mc_qa", "A.")):
        talk = {**video, "conversations": _talk("<image>\nwhat is this", answer)}
        (src / f"0_30_s_academic_{name}_processed.json").write_text(
            json.dumps([talk, {"conversations": _talk("a", "b")}])
        )
    options = ["--out", str(tmp_path / "out"), "--format", "llava", "--texts", "--jobs", "0"]
    assert main(["pack", str(tmp_path / src.name), *options]) == 0
    source = open_source(tmp_path / "out")
    assert [sample.kind for sample in source.samples] == ["video", "text", "text", "text"]
    talks = conversations_of(source.fields(0), source.samples[0].caption)
    assert [talk.turns[0].answer for talk in talks] == ["a cat", "A.", "yes"]
