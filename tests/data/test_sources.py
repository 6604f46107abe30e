import io
import json
import tarfile

import pytest

from fastvid.data import ShardWriter, classes_of, open_source, split_by_key, subset
from fastvid.data.shards.index import build_index, index_path
from fastvid.video import DecodeError, probe
from tests.video.clips import encode

VIDEO = encode(8)


def make_folder(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(VIDEO)


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_a_folder_tree_with_classes(tmp_path):
    make_folder(tmp_path, ["b/x.mp4", "a/y.MP4", "a/z.webm", "top.mkv"])
    (tmp_path / "a" / "notes.txt").write_text("no video")
    source = open_source(tmp_path)
    assert [s.key for s in source.samples] == ["a/y.MP4", "a/z.webm", "b/x.mp4", "top.mkv"]
    assert [s.label for s in source.samples] == ["a", "a", "b", None]
    assert classes_of(source) == ["a", "b"]
    assert source.shard_sizes == [4]
    assert source.read(2) == VIDEO


def test_one_file(tmp_path):
    make_folder(tmp_path, ["x.mp4"])
    assert [s.key for s in open_source(tmp_path / "x.mp4").samples] == ["x.mp4"]


def test_labels_from_a_table(tmp_path):
    make_folder(tmp_path, ["x.mp4", "y.mp4", "z.mp4"])
    table = tmp_path / "labels.csv"
    table.write_text("label,path\nrun,y.mp4\nsit,x.mp4\n")
    source = open_source(tmp_path, table)
    assert [s.label for s in source.samples] == ["sit", "run", None]
    table.write_text("path,label\nw.mp4,run\n")
    with pytest.raises(ValueError, match=r"1 of 1 .* line 2, 'w.mp4'"):
        open_source(tmp_path, table)


def test_what_is_not_there_is_said_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no data at"):
        open_source(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"no videos .*\.avi"):
        open_source(tmp_path)


def test_shards_round_trip(tmp_path):
    with ShardWriter(tmp_path, "train", shard_bytes=10_000) as writer:
        for i in range(12):
            writer.add(f"{i:03d}", ".mp4", VIDEO, label="ab"[i % 2])
    source = open_source(tmp_path)
    assert len(writer.shards) > 1
    assert len(source.samples) == 12
    assert sum(source.shard_sizes) == 12
    assert source.samples[0].key == "train-000000/000"
    assert [s.label for s in source.samples] == ["a", "b"] * 6
    assert source.samples[0].video.frames == 8
    assert all(source.read(i) == VIDEO for i in range(12))
    with tarfile.open(writer.shards[0]) as tar:  # an ordinary tar, readable by anyone
        assert tar.extractfile("000.mp4").read() == VIDEO
        assert json.loads(tar.extractfile("000.json").read()) == {"label": "a"}


def test_the_same_samples_make_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        with ShardWriter(tmp_path / name, "s") as writer:
            writer.add("k", ".mp4", VIDEO, label="x")
    assert (tmp_path / "one/s-000000.tar").read_bytes() == (tmp_path / "two/s-000000.tar").read_bytes()


def test_a_foreign_webdataset_is_indexed_in_place(tmp_path):
    tar = tmp_path / "data.tar"
    write_tar(
        tar,
        {
            "a/0001.mp4": VIDEO,
            "a/0001.json": b'{"label": 3, "fps": 25}',
            "0002.cls": b"7\n",
            "0002.mp4": VIDEO,
            "readme": b"no dot",
            "0003.jpg": b"no video",
            "0004.mp4": b"broken",
        },
    )
    source = open_source(tmp_path)
    assert [(s.key, s.label, s.video and s.video.frames) for s in source.samples] == [
        ("data/a/0001", "3", 8),
        ("data/0002", "7", 8),
        ("data/0004", None, None),
    ]
    assert index_path(tar).exists()
    assert [s.key for s in open_source(tar).samples] == [s.key for s in source.samples]  # now from the index
    write_tar(tar, {"new.mp4": VIDEO})
    assert [s.key for s in open_source(tar).samples] == ["data/new"]


def test_changed_bytes_are_noticed(tmp_path):
    with ShardWriter(tmp_path, "s") as writer:
        writer.add("a", ".mp4", VIDEO)
    tar = writer.shards[0]
    data = bytearray(tar.read_bytes())
    data[512 + 300] ^= 1
    tar.write_bytes(data)
    with pytest.raises(DecodeError) as caught:
        open_source(tmp_path).read(0)
    assert caught.value.reason == "checksum"
    assert probe(bytes(data[512 : 512 + len(VIDEO)])).frames == 8  # which FFmpeg would not have noticed


def test_a_shard_cut_short_is_refused_with_its_name(tmp_path):
    tar = tmp_path / "x.tar"
    tar.write_bytes(b"not a tar at all" * 100)
    with pytest.raises(ValueError, match=r"x\.tar is not a readable tar file"):
        build_index(tar)


def test_a_failed_writer_leaves_no_shard(tmp_path):
    def write():
        with ShardWriter(tmp_path, "s") as writer:
            writer.add("a", ".mp4", VIDEO)
            writer.add("b", ".mp4", b"broken")

    with pytest.raises(DecodeError):
        write()
    assert list(tmp_path.iterdir()) == []


def test_subsets_and_splits(tmp_path):
    make_folder(tmp_path, [f"{'ab'[i % 2]}/{i:03d}.mp4" for i in range(60)])
    source = open_source(tmp_path)
    train, test = split_by_key(source, 0.3)
    assert len(train.samples) + len(test.samples) == 60
    assert 8 < len(test.samples) < 30
    assert not {s.key for s in train.samples} & {s.key for s in test.samples}
    assert test.read(3) == VIDEO
    for i in range(60, 80):
        make_folder(tmp_path, [f"a/{i:03d}.mp4"])
    grown_train, grown_test = split_by_key(open_source(tmp_path), 0.3)
    assert {s.key for s in test.samples} <= {s.key for s in grown_test.samples}
    assert {s.key for s in train.samples} <= {s.key for s in grown_train.samples}
    some = subset(source, [i % 3 == 0 for i in range(60)])
    assert some.shard_sizes == [20]
    assert [s.key for s in some.samples] == [s.key for s in source.samples][::3]
