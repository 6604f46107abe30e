import hashlib
import subprocess
import sys
import tarfile

import pytest

from fastvid.data import open_source
from fastvid.data.__main__ import main
from fastvid.data.pack.item import collect, file_item
from fastvid.data.progress import Progress
from fastvid.data.shards.dataset_json import Dataset
from fastvid.video import decode, probe
from tests.data.packing import pack_folder
from tests.data.packs import VIDEOS, content, dataset_of, make, rejects_of
from tests.video.clips import encode, number_of


def test_a_folder_becomes_shards_that_load(tmp_path, capsys):
    make(tmp_path / "src")
    assert main(["pack", str(tmp_path / "src"), "--out", str(tmp_path / "out"), "--jobs", "2"]) == 0
    source = open_source(tmp_path / "out")
    assert len(source.samples) == 24
    for i, sample in enumerate(source.samples):
        number = int(sample.key[-3:])
        assert sample.label == f"class{number % 3}"
        assert source.read(i) == VIDEOS[number % len(VIDEOS)]
        assert sample.video.frames == number % len(VIDEOS) + 1
    dataset = dataset_of(tmp_path / "out")
    assert dataset.labels == {"class0": 8, "class1": 8, "class2": 8}
    assert dataset.frames == 3 * sum(range(1, 9))
    assert dataset.codecs == {"h264": 24}
    assert dataset.video_bytes == 3 * sum(map(len, VIDEOS))
    for shard in dataset.shards:
        assert hashlib.sha256((tmp_path / "out" / shard.name).read_bytes()).hexdigest() == shard.sha256
    with tarfile.open(tmp_path / "out" / dataset.shards[0].name) as tar:
        names = tar.getnames()
    assert [name for name in names if name.endswith(".mp4")] != sorted(n for n in names if n.endswith(".mp4"))  # mixed
    assert "24 videos in 1 shards" in capsys.readouterr().out
    before = content(tmp_path / "out")
    assert main(["pack", str(tmp_path / "src"), "--out", str(tmp_path / "out"), "--jobs", "0"]) == 0
    assert "nothing to do, all is packed already: 24 videos" in capsys.readouterr().out
    assert content(tmp_path / "out") == before


def test_the_bytes_do_not_depend_on_the_processes(tmp_path):
    make(tmp_path / "src")
    for jobs in (0, 3):
        pack_folder(tmp_path / "src", tmp_path / str(jobs), jobs)
    assert content(tmp_path / "0") == content(tmp_path / "3")
    assert len(dataset_of(tmp_path / "0").shards) > 2


def test_changed_options_and_videos_are_refused_by_name(tmp_path, capsys):
    make(tmp_path / "src", 4)
    arguments = ["pack", str(tmp_path / "src"), "--out", str(tmp_path / "out"), "--jobs", "0"]
    assert main(arguments) == 0
    assert main([*arguments, "--shard-mb", "64"]) == 2
    assert "other options: shard_mb was 128 and is 64" in capsys.readouterr().err
    assert main([*arguments, "--transcode"]) == 2
    assert "transcode was False and is True" in capsys.readouterr().err
    make(tmp_path / "src", 5)
    assert main(arguments) == 2
    assert "1 new (the first is class1/004.mp4)" in capsys.readouterr().err
    (tmp_path / "src/class1/004.mp4").unlink()
    (tmp_path / "src/class1/001.mp4").write_bytes(VIDEOS[5])
    assert main(arguments) == 2
    assert "1 changed in size, label or caption (the first is class1/001.mp4)" in capsys.readouterr().err
    (tmp_path / "src/class1/001.mp4").unlink()
    assert main(arguments) == 2
    assert "1 gone (the first is class1/001.mp4)" in capsys.readouterr().err


def test_shards_of_others_are_left_alone(tmp_path, capsys):
    make(tmp_path / "src", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/train-000000.tar").write_bytes(b"mine")
    arguments = ["pack", str(tmp_path / "src"), "--out", str(tmp_path / "out"), "--jobs", "0"]
    assert main(arguments) == 2
    assert "holds train-000000.tar, which no unfinished pack has put there" in capsys.readouterr().err
    assert (tmp_path / "out/train-000000.tar").read_bytes() == b"mine"


def test_odd_videos_are_packed(tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    videos = {"one": encode(1), "vfr": encode(4, times=[0, 5, 90, 100]), "tall": encode(3, height=67 * 2, rotation=90)}
    for name, data in videos.items():
        (src / f"{name}.mp4").write_bytes(data)
    (src / "old.avi").write_bytes(encode(5, "mpeg4", "avi"))
    (src / "phone.3gp").write_bytes(videos["one"])
    assert main(["pack", str(src), "--out", str(tmp_path / "out"), "--jobs", "0"]) == 0
    source = open_source(tmp_path / "out")
    assert sorted(s.key.rpartition("/")[2] for s in source.samples) == ["old", "one", "phone", "tall", "vfr"]
    with tarfile.open(tmp_path / "out/shard-000000.tar") as tar:
        assert "phone.mp4" in tar.getnames()  # an ending that readers of shards know


def test_transcoded(tmp_path):
    make(tmp_path / "src", 4)
    (tmp_path / "src/class0/v.webm").write_bytes(encode(30, "libvpx-vp9", "webm", audio=True))
    arguments = ["--out", str(tmp_path / "out"), "--jobs", "0", "--transcode", "--short-side", "32", "--fps", "10"]
    assert main(["pack", str(tmp_path / "src"), *arguments]) == 0
    source = open_source(tmp_path / "out")
    row = next(i for i, s in enumerate(source.samples) if s.key.endswith("class0/v"))
    info = probe(source.read(row))
    assert (info.codec, info.frames, info.fps, info.upright_size) == ("h264", 12, pytest.approx(10), (32, 64))
    assert dataset_of(tmp_path / "out").codecs == {"h264": 5}
    assert dataset_of(tmp_path / "out").made_by["options"]["fps"] == 10


def test_a_file_that_goes_or_grows_meanwhile_is_a_reject(tmp_path):
    make(tmp_path / "src", 3)
    root = tmp_path / "src"
    sizes = {"class0/000.mp4": None, "class1/001.mp4": 5, "class2/002.mp4": 10**6, "gone.mp4": 7}
    collection = collect(root, [file_item(root, path, size) for path, size in sizes.items()])
    pack_folder(None, tmp_path / "out", collection=collection)
    rejects = {line["path"]: line["detail"] for line in rejects_of(tmp_path / "out")}
    assert sorted(rejects) == ["class1/001.mp4", "class2/002.mp4", "gone.mp4"]
    assert "no longer has the 5 bytes" in rejects["class1/001.mp4"]
    assert rejects["gone.mp4"] == "No such file or directory"


def test_existing_tars_are_packed_anew(tmp_path):
    make(tmp_path / "src", 6)
    assert main(["pack", str(tmp_path / "src"), "--out", str(tmp_path / "one"), "--jobs", "0"]) == 0
    arguments = ["--out", str(tmp_path / "two"), "--jobs", "0", "--format", "webdataset"]
    assert main(["pack", str(tmp_path / "one"), *arguments]) == 0
    source = open_source(tmp_path / "two")
    assert {s.key.partition("/")[2] for s in source.samples} == {s.key for s in open_source(tmp_path / "one").samples}
    for row, sample in enumerate(source.samples):
        assert number_of(decode(source.read(row), [0])[0]) == 0
        assert sample.label == f"class{int(sample.key[-3:]) % 3}"


def test_parts_go_to_folders_of_their_own(tmp_path):
    for name in ("Run/v_Run_g01_c01.avi", "Sit/v_Sit_g01_c01.avi", "Sit/v_Sit_g02_c01.avi"):
        (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / name).write_bytes(encode(4, "mpeg4", "avi"))
    (tmp_path / "src/trainlist02.txt").write_text("Run/v_Run_g01_c01.avi 1\nSit/v_Sit_g02_c01.avi 2\n")
    (tmp_path / "src/testlist02.txt").write_text("Sit/v_Sit_g01_c01.avi\n")
    arguments = ["--format", "ucf101", "--split", "2", "--jobs", "0", "--out", str(tmp_path / "out")]
    assert main(["pack", str(tmp_path / "src"), *arguments]) == 0
    assert dataset_of(tmp_path / "out/train").labels == {"Run": 1, "Sit": 1}
    assert dataset_of(tmp_path / "out/test").labels == {"Sit": 1}
    assert (tmp_path / "out/train/train-000000.tar").exists()


@pytest.mark.parametrize("url", ["memory://{}/shards", "file://{}/shards"])
def test_to_a_url(tmp_path, url, capsys, monkeypatch):
    import fsspec

    monkeypatch.setenv("FASTVID_CACHE", str(tmp_path / "cache"))
    make(tmp_path / "src", 6)
    out = url.format(tmp_path if url.startswith("file") else "/" + tmp_path.name)
    assert main(["pack", str(tmp_path / "src"), "--out", out, "--jobs", "0"]) == 0
    assert main(["pack", str(tmp_path / "src"), "--out", str(tmp_path / "local"), "--jobs", "0"]) == 0
    fs, path = fsspec.core.url_to_fs(out)
    there = {name.rpartition("/")[2]: fs.cat_file(name) for name in fs.find(path)}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in there.items()} == content(tmp_path / "local")
    assert not list((tmp_path / "cache").rglob("*.tar*"))
    capsys.readouterr()
    assert main(["pack", str(tmp_path / "src"), "--out", out, "--jobs", "0"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_an_upload_that_fails_is_repeated(tmp_path, monkeypatch, capsys):
    import fsspec

    monkeypatch.setenv("FASTVID_CACHE", str(tmp_path / "cache"))
    src, out, fs = tmp_path / "src", f"memory://{tmp_path.name}/shards", fsspec.filesystem("memory")
    make(src, 6)
    put = type(fs).put_file

    def broken(self, local, remote, **options):
        if "tar" in remote:
            raise ConnectionError("the line is dead")
        return put(self, local, remote, **options)

    arguments = ["pack", str(src), "--out", out, "--jobs", "0"]
    with monkeypatch.context() as patch:
        patch.setattr(type(fs), "put_file", broken)
        assert main(arguments) == 1
    assert "the line is dead. Finished shards are kept" in capsys.readouterr().err
    assert not [name for name in fs.find(f"/{tmp_path.name}") if name.endswith((".tar", ".json"))]
    assert main(arguments) == 0
    assert len([name for name in fs.find(f"/{tmp_path.name}") if name.endswith(".tar")]) == 1
    data = fs.cat_file(f"/{tmp_path.name}/shards/dataset.json")
    assert Dataset.from_bytes(data, "dataset.json").samples == 6


def test_places_that_cannot_be_written(tmp_path, capsys):
    make(tmp_path / "src", 1)
    for url in ("https://localhost/shards", "nonsense://x/y"):
        assert main(["pack", str(tmp_path / "src"), "--out", url]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "option", [["--jobs", "-1"], ["--shard-mb", "0"], ["--max-rejects", "2"], ["--transcode", "--short-side", "7"]]
)
def test_impossible_options(tmp_path, option, capsys):
    make(tmp_path / "src", 1)
    assert main(["pack", str(tmp_path / "src"), "--out", str(tmp_path / "out"), *option]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_command_on_the_decode_side_imports_torch():
    modules = ["pack.command", "commands.check", "commands.index", "commands.info"]
    code = f"import sys; {'; '.join(f'import fastvid.data.{m}' for m in modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_progress_without_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("fastvid.data.progress._EVERY", 0.0)
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr("fastvid.data.progress.time.monotonic", lambda: next(clock))
    with Progress("video") as progress:
        for done in (0, 20, 40):
            progress(done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == [
        "20 of 100 videos, 2.0 a second, 0.7 minutes left",
        "40 of 100 videos, 2.0 a second, 0.5 minutes left",
    ]
