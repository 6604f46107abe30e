"""A folder of shards, or of parts with shards: training and every data command see the same in it."""

import errno
import os
import shutil

import pytest

from fastvid.data import open_parts
from fastvid.data.__main__ import main
from fastvid.data.shards.index import index_path
from tests.data.packing import pack_folder
from tests.data.packs import dataset_of, make
from tests.data.test_walk import make_tar
from tests.video.clips import encode

VIDEO = encode(8)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    root = tmp_path_factory.mktemp("split")
    for part, count in (("train", 5), ("test", 3)):
        make(root / "src" / part, count)
        pack_folder(root / "src" / part, root / "out" / part)
    return root / "out"


@pytest.fixture
def split(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "shards")


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_check_looks_into_every_part(split, capsys):
    assert main(["check", str(split), "--jobs", "0", "--quick"]) == 0
    flip(split / "test/shard-000000.tar", 300)
    assert main(["check", str(split), "--jobs", "0", "--quick"]) == 1
    out, err = capsys.readouterr()
    assert "test/shard-000000.tar: its bytes are not those that dataset.json names (sha256)" in out
    assert err == f"1 faults in {split}\n"
    (split / "train/dataset.json").unlink()
    assert main(["check", str(split), "--jobs", "0", "--quick"]) == 2
    assert f"no dataset.json in {split}/train" in capsys.readouterr().err


def test_info_counts_every_part(split, capsys):
    assert main(["info", str(split), "--seconds", "0.2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith(":")] == ["test:", "train:"]
    assert [line.split()[1] for line in lines if line.startswith("videos ")] == ["3", "5"]
    assert sum(line.startswith("decoding ") for line in lines) == 1


def test_index_makes_those_of_every_part(split, capsys):
    for part in ("train", "test"):
        (split / part / "dataset.json").unlink()
        index_path(split / part / "shard-000000.tar").unlink()
    assert main(["index", str(split), "--jobs", "0"]) == 0
    printed = capsys.readouterr().out
    assert f"{split}/test: 3 videos in 1 shards are indexed" in printed
    assert f"{split}/train: 5 videos in 1 shards are indexed" in printed
    assert dataset_of(split / "train").samples == 5
    assert len(open_parts(split).samples) == 8


def test_packing_a_split_pack_anew_keeps_its_parts(split, tmp_path):
    arguments = ["pack", str(split), "--out", str(tmp_path / "out"), "--format", "webdataset", "--jobs", "0"]
    assert main(arguments) == 0
    assert [dataset_of(tmp_path / "out" / part).samples for part in ("train", "test")] == [5, 3]
    then, now = (sorted(sample.label for sample in open_parts(p).samples) for p in (split, tmp_path / "out"))
    assert then == now


def test_shards_beside_the_parts_are_refused_by_training_and_by_commands(split, capsys):
    make_tar(split / "extra/y.tar", {"0.mp4": VIDEO})
    with pytest.raises(ValueError, match=r"test, train .*extra/y\.tar"):
        open_parts(split)
    for command in ("check", "info", "index"):
        assert main([command, str(split)]) == 2
        assert "holds the parts test, train and, outside them, extra/y.tar: move" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["old.tgz", "old.tar.gz", "old.zip"])
def test_a_compressed_archive_beside_shards_is_named(split, name, caplog):
    words = rf"left out: 1 compressed archive ({name}); videos in a compressed archive are not read: unpack it"
    for folder in (split / "train", split):
        caplog.clear()
        open_parts(folder)
        assert not caplog.messages
        (folder / name).write_bytes(b"-")
        open_parts(folder)
        assert [words in message for message in caplog.messages] == [True]
        (folder / name).unlink()


def test_videos_of_other_containers_beside_shards_are_counted(split, caplog):
    (split / "train/old.wmv").write_bytes(VIDEO)
    (split / "train/notes.txt").write_text("not worth a word")
    open_parts(split / "train")
    assert caplog.messages == [
        f"{split}/train: left out: 1 video in containers that are not read (.wmv)",
    ]


def test_index_says_what_it_leaves_out_and_refuses_what_training_would(tmp_path, caplog, capsys):
    (tmp_path / "x.tgz").write_bytes(b"-")
    assert main(["index", str(tmp_path), "--jobs", "0"]) == 2
    assert f"no .tar files in {tmp_path}; left out: 1 compressed archive (x.tgz)" in capsys.readouterr().err
    make_tar(tmp_path / "a.tar", {"0.mp4": VIDEO})
    assert main(["index", str(tmp_path), "--jobs", "0"]) == 0
    assert "1 compressed archive (x.tgz)" in caplog.text
    make_tar(tmp_path / "deep/b.tar", {"0.mp4": VIDEO})
    assert main(["index", str(tmp_path), "--jobs", "0"]) == 2
    assert "and so do folders below it (deep/b.tar)" in capsys.readouterr().err


def test_a_pack_given_as_a_folder_of_videos_names_the_format(split, tmp_path, capsys):
    assert main(["pack", str(split), "--out", str(tmp_path / "out")]) == 2
    assert "no videos found" in (said := capsys.readouterr().err)
    assert "--format webdataset packs tar files" in said


def test_one_rule_of_exit_codes(split, tmp_path, monkeypatch, capsys):
    """2: not what the command takes; 1: a disk that fails on the way, or faults."""
    damaged = tmp_path / "damaged"
    make_tar(damaged / "x.tar", {"a.mp4": VIDEO, "b.mp4": VIDEO})
    (damaged / "x.tar").write_bytes((damaged / "x.tar").read_bytes()[:3000])
    out = ["--out", str(tmp_path / "out"), "--jobs", "0"]
    (split / "train/dataset.json").write_text("{}")
    for arguments in (
        ["index", str(damaged), "--jobs", "0"],
        ["pack", str(damaged), "--format", "webdataset", *out],
        ["info", str(split)],
        ["index", str(tmp_path / "nowhere")],
        ["check", str(tmp_path / "nowhere")],
        ["info", str(tmp_path / "nowhere")],
        ["pack", str(tmp_path / "nowhere"), *out],
        ["demo", "--out", str(split)],
    ):
        assert main(arguments) == 2, arguments
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["check", str(split), "--quick", "--jobs", "0"]) == 1

    def full(*paths, **more):
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    make(tmp_path / "src", 1)
    make_tar(tmp_path / "tars/x.tar", {"a.mp4": VIDEO})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        for arguments in (["index", str(tmp_path / "tars"), "--jobs", "0"], ["pack", str(tmp_path / "src"), *out]):
            assert main(arguments) == 1, arguments
            assert "Traceback" not in capsys.readouterr().err

    def interrupted(*paths):
        raise KeyboardInterrupt

    for module in ("index.index", "check.check", "info.load_dataset"):
        with monkeypatch.context() as patch:
            patch.setattr(f"fastvid.data.commands.{module}", interrupted)
            assert main([module.partition(".")[0], str(split)]) == 130
