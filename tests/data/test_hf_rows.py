"""Rows of Hugging Face ``datasets``, streamed into shards."""

import json
import sys

import pytest

from fastvid.data import open_described, open_source
from fastvid.data.__main__ import main
from fastvid.data.pack import command
from fastvid.data.pack import hf_rows as module
from fastvid.data.pack.hf_rows import hf_rows
from fastvid.data.pack.run import Packing
from fastvid.data.text.conversation import conversations_of
from tests.data.test_kinds import picture
from tests.video.clips import encode

IMAGE = {"bytes": picture(1), "path": None}


def pack(src, out, *options) -> int:
    return main(["pack", str(src), "--out", str(out), "--format", "hf", "--jobs", "0", *options])


def told(folder) -> dict[str, list[tuple[str, str]]]:
    source = open_described(folder)
    return {
        sample.kind: [talk.turns[0] for talk in conversations_of(source.fields(index), sample.caption)]
        for index, sample in enumerate(source.samples)
    }


def test_rows_become_items(tmp_path):
    (tmp_path / "a.mp4").write_bytes(encode(3))
    made = [
        module._row("00000000", {"image": IMAGE, "text": "a cat", "n": 1}, ["image"]),
        module._row("00000001", {"images": [IMAGE], "texts": [{"user": "q", "assistant": "a"}] * 2}, ["images"]),
        module._row("00000002", {"video": {"bytes": None, "path": str(tmp_path / "a.mp4")}, "caption": "x"}, ["video"]),
        module._row(
            "00000003", {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, []
        ),
    ]
    assert [(row.item.caption, row.item.text_alone) for row in made] == [
        ("a cat", False), (None, False), ("x", False), (None, True),
    ]  # fmt: skip
    assert [row.data for row in made[:3]] == [IMAGE["bytes"], IMAGE["bytes"], encode(3)]
    assert made[0].item.extra == {"n": 1}
    assert len(conversations_of(made[1].item.extra)) == 2
    for row, said in (
        ({"image": None, "text": "a"}, "neither a picture nor a video"),
        ({"image": [IMAGE, IMAGE], "text": "a"}, "2 pictures or videos: a sample is one"),
        ({"image": IMAGE, "messages": [{"role": "user", "content": "q"}]}, "a question and its answer are expected"),
    ):
        with pytest.raises(ValueError, match=said):
            module._row("00000000", row, ["image"])


def test_without_the_package_it_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert pack("some/name", tmp_path / "out") == 2
    assert "needs the package datasets: pip install 'fastvid[datasets]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def folder(tmp_path):
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is an extra")
    ask = [{"role": "user", "content": "what"}, {"role": "assistant", "content": "a cat"}]
    columns = {
        "image": [picture(1), None, None, picture(2)], "video": [None, None, encode(4), picture(3)],
        "messages": [ask, ask, None, ask], "caption": [None, None, "a dog", None],
    }  # fmt: skip
    rows = datasets.Dataset.from_dict(
        {name: [{"bytes": x, "path": None} if isinstance(x, bytes) else x for x in v] for name, v in columns.items()}
    )
    features = {**rows.features, "image": datasets.Image(), "video": datasets.Video()}
    (tmp_path / "set").mkdir()
    rows.cast(datasets.Features(features)).to_parquet(tmp_path / "set" / "train.parquet")
    return tmp_path / "set"


def test_a_data_set_is_streamed_into_shards(folder, tmp_path, capsys):
    assert pack(folder, tmp_path / "out", "--max-rejects", "0.3") == 0
    assert "1 of 4 videos rejected (1 row)" in capsys.readouterr().out
    (line,) = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["detail"] == "2 pictures or videos: a sample is one"
    found = told(tmp_path / "out")
    assert {kind: talks[0].answer for kind, talks in found.items()} == {
        "image": "a cat", "text": "a cat", "video": "a dog",
    }  # fmt: skip
    assert pack(folder, tmp_path / "out", "--max-rejects", "0.3") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_stopped_pack_goes_on_behind_the_last_finished_shard(folder, tmp_path, monkeypatch):
    begun = []
    real = module._HfRows.begin

    def begin(self, first):
        begun.append(first)
        for number, row in enumerate(real(self, first), first):
            if number == 3 and len(begun) == 1:
                raise KeyboardInterrupt
            yield row

    monkeypatch.setattr(module._HfRows, "begin", begin)
    monkeypatch.setattr(command, "Packing", lambda **options: Packing(**{**options, "shard_bytes": 1}))
    options = ("--max-rejects", "0.3")
    assert pack(folder, tmp_path / "out", *options) == 130
    assert pack(folder, tmp_path / "out", *options) == 0
    assert begun == [0, 3]
    assert pack(folder, tmp_path / "whole", *options) == 0
    shards = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.tar")}
    assert len(shards) == 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.tar")} == shards


def test_classes_have_their_names_and_a_lost_connection_loses_nothing(tmp_path, capsys, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is an extra")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    features["stamp"] = datasets.Value("binary")
    rows = {"image": [{"bytes": picture(n), "path": None} for n in range(2)], "label": [1, 0], "stamp": [b"a", b"b"]}
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "set" / "train.parquet")
    real = module._bytes
    with monkeypatch.context() as patch:

        def lost(stored):
            raise ConnectionResetError("gone")

        patch.setattr(module, "_bytes", lost)
        assert pack(tmp_path / "set", tmp_path / "out") == 1
        assert "row 0 could not be read (ConnectionResetError: gone)" in capsys.readouterr().err
    assert module._bytes is real
    assert pack(tmp_path / "set", tmp_path / "out") == 0
    assert "left out: the columns stamp, which are neither text nor number" in capsys.readouterr().out
    assert sorted(sample.label for sample in open_source(tmp_path / "out").samples) == ["cat", "dog"]


def test_a_split_that_is_not_there_is_refused(folder):
    with pytest.raises(ValueError, match="split"):
        hf_rows(str(folder), None, "nothing")
