"""Which videos a folder holds: the same for training and packing, and nothing left out without a word."""

import errno
import io
import logging
import os
import tarfile

import pytest

from fastvid.data import ShardWriter, classes_of, open_parts, open_source
from fastvid.data.commands.index import index
from fastvid.data.pack.command import PackCommand, run
from fastvid.data.pack.folder import folder
from fastvid.data.pack.ntu import ntu
from fastvid.data.pack.webdataset import webdataset
from fastvid.data.walk import MISSING, walk
from fastvid.latents.manifest import dataset_hash
from fastvid.video import DecodeError
from tests.video.clips import encode

VIDEO = encode(8)


def make(root, *names, data=VIDEO):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def make_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def unreadable(monkeypatch, folder):
    """Makes a folder fail as it does for a user without access to it."""
    real = os.scandir

    def scandir(path):
        if os.fspath(path) == os.fspath(folder):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def trained_on(path):
    return [sample.key for sample in open_source(path).samples]


def packed(path):
    return [item.path for item in folder(path)[""].items]


def test_linked_class_folders_are_classes_for_training_and_packing(tmp_path):
    make(tmp_path / "disk", "run/a.mp4", "b.mp4")
    src = tmp_path / "src"
    src.mkdir()
    (src / "run").symlink_to(tmp_path / "disk/run")
    (src / "jog").symlink_to(tmp_path / "disk/run")  # two names for one place are two classes
    (src / "b.mp4").symlink_to(tmp_path / "disk/b.mp4")
    source = open_source(src)
    assert [(s.key, s.label) for s in source.samples] == [("b.mp4", None), ("jog/a.mp4", "jog"), ("run/a.mp4", "run")]
    assert classes_of(source) == ["jog", "run"]
    assert source.read(1) == VIDEO
    assert packed(src) == ["b.mp4", "jog/a.mp4", "run/a.mp4"]


def test_a_circle_of_links_ends(tmp_path, caplog):
    make(tmp_path, "run/a.mp4", "sit/b.mp4")
    (tmp_path / "run/up").symlink_to(tmp_path)
    (tmp_path / "sit/here").symlink_to(".")
    assert trained_on(tmp_path) == packed(tmp_path) == ["run/a.mp4", "sit/b.mp4"]
    assert "left out: 2 links to folders that hold them (run/up, sit/here)" in caplog.text


@pytest.mark.parametrize("where", ["", "run"])
def test_a_folder_that_cannot_be_read_is_refused_by_name(tmp_path, monkeypatch, capsys, where):
    make(tmp_path / "src", "run/a.mp4", "sit/b.mp4")
    closed = tmp_path / "src" / where
    unreadable(monkeypatch, closed)
    with pytest.raises(ValueError, match=rf"^{closed} cannot be read \(Permission denied\)"):
        open_source(tmp_path / "src")
    with pytest.raises(ValueError, match=rf"^{closed} cannot be read"):
        open_parts(tmp_path / "src")
    assert run(PackCommand(str(tmp_path / "src"), str(tmp_path / "out"), jobs=0)) == 2
    said = capsys.readouterr().err
    assert f"{closed} cannot be read" in said
    assert "written" not in said
    assert not (tmp_path / "out").exists()


def test_a_tar_that_cannot_be_read_is_not_called_unwritable(tmp_path, monkeypatch, capsys):
    make_tar(tmp_path / "src/x.tar", {"0.mp4": VIDEO})
    real = type(tmp_path).open

    def closed(path, *args, **more):
        if path.name == "x.tar":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *args, **more)

    monkeypatch.setattr(type(tmp_path), "open", closed)
    assert run(PackCommand(str(tmp_path / "src"), str(tmp_path / "out"), format="webdataset", jobs=0)) == 2
    assert f"{tmp_path}/src/x.tar cannot be read: Permission denied; nothing was packed" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"x\.tar cannot be read: Permission denied"):
        open_source(tmp_path / "src")


def test_what_is_left_out_is_counted_in_one_line(tmp_path, caplog):
    make(tmp_path, "run/a.mp4", "run/._a.mp4", ".git/x.mp4", "__MACOSX/run/a.mp4", "sit/notes.txt", "none/deep/n.txt")
    make(tmp_path, "run/old.mpg", "run/b.ts", "was.tar.gz")
    os.mkfifo(tmp_path / "pipe.mp4")
    with caplog.at_level(logging.INFO, logger="fastvid.data.sources.folder"):
        assert trained_on(tmp_path) == ["run/a.mp4"]
    assert caplog.messages == [
        f"{tmp_path}: left out: 2 videos in containers that are not read (.mpg, .ts), 1 compressed archive "
        "(was.tar.gz), 2 folders without videos (none, sit), 3 hidden, 3 other files; videos in a compressed archive "
        "are not read: unpack it, or make a plain .tar of a .tar.gz with gunzip"
    ]
    assert packed(tmp_path) == ["run/a.mp4", "run/b.ts", "run/old.mpg"]  # and these are named as rejects


def test_a_link_to_nothing_is_a_bad_video_or_refused(tmp_path):
    make(tmp_path, "run/a.mp4")
    (tmp_path / "run/gone.mp4").symlink_to(tmp_path / "nowhere")
    source = open_source(tmp_path)
    assert [sample.key for sample in source.samples] == ["run/a.mp4", "run/gone.mp4"]
    for ask in (source.size, source.read):
        with pytest.raises(DecodeError, match=r"run/gone\.mp4: No such file"):
            ask(1)
    assert walk(tmp_path).videos[1] == ("run/gone.mp4", MISSING)
    assert dataset_hash(tmp_path, source)
    (tmp_path / "sit").symlink_to("/nowhere/sit")
    with pytest.raises(ValueError, match=r"sit is a link"):
        open_source(tmp_path)
    with pytest.raises(ValueError, match="sit is a link"):
        folder(tmp_path)


def test_an_empty_file_is_a_video_that_cannot_be_decoded(tmp_path):
    make(tmp_path, "run/a.mp4", data=b"")
    assert trained_on(tmp_path) == packed(tmp_path) == ["run/a.mp4"]


def test_tars_beside_videos_are_refused(tmp_path):
    make(tmp_path, "run/a.mp4")
    make_tar(tmp_path / "x.tar", {"0.mp4": VIDEO})
    words = r"holds both tar files \(x\.tar\) and videos \(run/a\.mp4\)"
    for opener in (open_source, open_parts):
        with pytest.raises(ValueError, match=words):
            opener(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "x.tar").rename(tmp_path / "sub/x.tar")
    with pytest.raises(ValueError, match=r"run/a\.mp4.*sub/x\.tar"):
        open_source(tmp_path)
    assert folder(tmp_path)[""].notes == ["left out: 1 tar file (sub/x.tar)"]
    assert webdataset(tmp_path)[""].notes == [
        "left out: 1 videos outside the tar files (run/a.mp4); --format folder packs them"
    ]


def test_tars_in_folders_below_are_named(tmp_path):
    make_tar(tmp_path / "one/x.tar", {"0.mp4": VIDEO})
    with pytest.raises(ValueError, match=r"\(one/x\.tar\)"):
        open_source(tmp_path)
    make_tar(tmp_path / "y.tar", {"0.mp4": VIDEO})
    with pytest.raises(ValueError, match=r"\(one/x\.tar\)"):
        open_source(tmp_path)
    (tmp_path / "two").symlink_to(tmp_path / "one")
    assert [item.key for item in webdataset(tmp_path)[""].items] == ["one/x/0", "two/x/0", "y/0"]


def test_compressed_archives_are_named(tmp_path):
    make(tmp_path, "x.tar.gz")
    with pytest.raises(ValueError, match=r"\(x\.tar\.gz\).* gunzip"):
        open_source(tmp_path)
    with pytest.raises(ValueError, match=r"x\.tar\.gz is not a video"):
        open_source(tmp_path / "x.tar.gz")


def test_parts_leave_nothing_out(tmp_path):
    for part in ("train", "val"):
        make_tar(tmp_path / part / "x.tar", {"0.mp4": VIDEO, "0.cls": b"run"})
    assert [sample.key for sample in open_parts(tmp_path).samples] == ["train/x/0", "val/x/0"]
    make_tar(tmp_path / "extra/y.tar", {"0.mp4": VIDEO})
    with pytest.raises(ValueError, match=r"train, val .*extra/y\.tar"):
        open_parts(tmp_path)


def test_hidden_tars_are_no_shards_and_a_new_one_is_not_forgotten(tmp_path):
    with ShardWriter(tmp_path, "s") as writer:
        writer.add("a", ".mp4", VIDEO)
    (tmp_path / "._s-000000.tar").write_bytes(b"what macOS leaves")
    index(tmp_path)
    assert trained_on(tmp_path) == ["s-000000/a"]
    make_tar(tmp_path / "t.tar", {"0.mp4": VIDEO})
    with pytest.raises(ValueError, match=r"dataset\.json .*t\.tar"):
        open_source(tmp_path)
    index(tmp_path)
    assert trained_on(tmp_path) == ["s-000000/a", "t/0"]


def test_of_ntu_the_rgb_videos_are_taken(tmp_path, caplog):
    names = [f"S001C001P00{p}R001A00{a}" for p in (1, 2) for a in (1, 2)]
    make(tmp_path, *(f"rgb/{n}_rgb.avi" for n in names), *(f"ir/{n}_ir.avi" for n in names))
    make(tmp_path, "skeletons/S001C001P001R001A001.skeleton", "depth_masked/S001C001P001R001A001/MDepth-00000001.png")
    rgb = [f"rgb/{name}_rgb.avi" for name in names]
    assert trained_on(tmp_path) == packed(tmp_path) == rgb
    assert "4 infrared videos of NTU RGB+D" in caplog.text
    found = ntu(tmp_path)[""]
    assert [item.path for item in found.items] == rgb
    assert found.notes == [
        "left out: 4 infrared videos of NTU RGB+D (ir/S001C001P001R001A001_ir.avi, ir/S001C001P001R001A002_ir.avi, "
        "ir/S001C001P002R001A001_ir.avi, ...), 2 folders without videos (depth_masked, skeletons), 2 other files"
    ]
    assert len(trained_on(tmp_path / "ir")) == 4  # where there is nothing else, they are meant
