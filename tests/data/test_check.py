import json
import shutil
import tarfile

import pytest

from fastvid.data import open_source
from fastvid.data.__main__ import main
from fastvid.data.commands.check import check
from fastvid.data.commands.index import index
from fastvid.data.shards.dataset_json import save_dataset
from fastvid.data.shards.entry import Entry
from fastvid.data.shards.index import index_bytes, load_index
from fastvid.data.shards.tar_writer import TarShard
from fastvid.data.shards.writer import ShardWriter
from fastvid.video import probe
from tests.data.packing import pack_folder
from tests.data.packs import content, dataset_of, make
from tests.data.test_tar_members import special, tar_bytes
from tests.video.clips import encode

VIDEO = encode(8)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    root = tmp_path_factory.mktemp("packed")
    make(root / "src")
    pack_folder(root / "src", root / "out")
    return root / "out"


@pytest.fixture
def folder(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "shards")


def flip(path, at, bit=1):
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


def faults(folder, **options):
    return [(f.file, f.key, f.what, f.remedy) for f in check(folder, **options)]


@pytest.mark.parametrize("jobs", ["0", "2"])
def test_what_pack_makes_has_no_faults(folder, jobs, capsys):
    assert main(["check", str(folder), "--jobs", jobs]) == 0
    assert main(["check", str(folder), "--jobs", jobs, "--quick"]) == 0
    assert capsys.readouterr().out == (
        f"{folder}: no faults\n{folder}: no faults in the checksums; nothing was decoded\n"
    )


def test_a_flipped_bit_in_a_video_is_named_with_its_key(folder, capsys):
    tar = sorted(folder.glob("*.tar"))[1]
    entry = load_index(tar)[2]
    flip(tar, entry.offset + entry.size // 2)
    found = faults(folder)
    assert [(file, key) for file, key, _, _ in found] == [(tar.name, ""), (tar.name, entry.key)]
    assert "sha256" in found[0][2]
    assert "crc32" in found[1][2]
    assert main(["check", str(folder), "--jobs", "0"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"{tar.name}: {entry.key}: ")
    assert lines[1].endswith("copy it again from where it came, or pack anew")


def test_a_flipped_bit_between_the_videos_is_noticed(folder):
    tar = sorted(folder.glob("*.tar"))[0]
    flip(tar, 300)
    assert [(file, key) for file, key, _, _ in faults(folder)] == [(tar.name, "")]


def test_a_cut_shard_a_missing_one_and_a_spare_one(folder):
    tars = sorted(folder.glob("*.tar"))
    tars[0].write_bytes(tars[0].read_bytes()[:-100])
    tars[1].unlink()
    shutil.copy(tars[2], folder / "spare.tar")
    found = {file: what for file, key, what, _ in faults(folder) if not key}
    assert "bytes and dataset.json says" in found[tars[0].name]
    assert "cannot be read: No such file" in found[tars[1].name]
    assert found["spare.tar"] == "dataset.json does not name it"


def test_flipped_bits_of_indexes_and_of_dataset_json(folder):
    tars = sorted(folder.glob("*.tar"))
    flip(tars[0].with_name("shard-000000.index.jsonl"), 400)
    tars[1].with_name("shard-000001.index.jsonl").unlink()
    found = faults(folder)
    assert [file for file, _, _, _ in found] == ["shard-000000.index.jsonl", "shard-000001.index.jsonl"]
    assert "is not the index that dataset.json names" in found[0][2]
    assert "`python -m fastvid.data index`" in found[1][3]
    flip(folder / "dataset.json", 300)
    assert [file for file, _, _, _ in faults(folder)] == ["dataset.json"]


def test_a_video_that_does_not_decode_or_has_other_frames(tmp_path):
    good = encode(60, options={"g": "12"})
    start = good.find(b"mdat") + 200
    rotten = good[:start] + bytes(len(good[start:-1500])) + good[-1500:]
    shard = TarShard(tmp_path / "s-000000.tar", "s-000000.tar")
    shard.add("rotten", ".mp4", rotten, probe(good))
    shard.add("short", ".mp4", VIDEO, probe(encode(9)))
    facts, content_ = shard.finish()
    (tmp_path / "s-000000.index.jsonl").write_bytes(content_)
    with ShardWriter(tmp_path, "unused") as writer:
        save_dataset(tmp_path, writer._counts.dataset([facts], {}))
    assert faults(tmp_path, quick=True) == []
    found = faults(tmp_path)
    assert [(key, what[:7]) for _, key, what, _ in found] == [("rotten", "corrupt"), ("short", "frame_c")]
    assert "8 frames decode" in found[1][2]
    assert "`python -m fastvid.data index`" in found[1][3]


def test_a_video_that_could_not_be_indexed(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_bytes(("a.mp4", VIDEO), ("b.mp4", b"broken")))
    index(tmp_path)
    assert [(key, what) for _, key, what, _ in faults(tmp_path)] == [("b", "it could not be read when it was indexed")]


def test_without_dataset_json(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert main(["info", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("`python -m fastvid.data index") == 2


def test_indexed_anew_the_folder_is_as_packed(folder, packed):
    for path in folder.glob("*.index.jsonl"):
        path.write_bytes(path.read_bytes()[:50])
    dataset, sentences = index(folder)
    assert content(folder) == content(packed)
    assert (dataset, sentences) == (dataset_of(packed), [])


def test_a_changed_shard_is_not_indexed_unasked(folder, capsys):
    tar = sorted(folder.glob("*.tar"))[1]
    flip(tar, load_index(tar)[0].offset + 40)
    before = content(folder)
    assert main(["index", str(folder), "--jobs", "0"]) == 2
    assert f"{tar} no longer has the bytes that dataset.json names" in capsys.readouterr().err
    assert content(folder) == before
    assert main(["index", str(folder), "--jobs", "0", "--accept-changed"]) == 0
    assert [what for _, _, what, _ in faults(folder, quick=True) if "sha256" in what or "crc32" in what] == []
    tar.unlink()
    assert main(["index", str(folder), "--jobs", "0"]) == 2
    assert f"{tar} is missing, and dataset.json names it" in capsys.readouterr().err


def test_foreign_tars_are_indexed_where_they_lie(tmp_path, capsys):
    data = tar_bytes(
        ("0.mp4", VIDEO), ("0.cls", b"3"), ("0.txt", b"a caption"), (f"{'long' * 60}.mp4", VIDEO),
        special("1.mp4", tarfile.SYMTYPE, "/etc/passwd"), ("../2.mp4", VIDEO), ("3.mp4", b"broken"),
    )  # fmt: skip
    (tmp_path / "a.tar").write_bytes(data)
    (tmp_path / "a.index.jsonl").write_text('{"version": 1}\n')  # an old one
    assert main(["index", str(tmp_path), "--jobs", "2"]) == 0
    printed = capsys.readouterr().out
    assert "'1.mp4' is a symbolic link: passed over" in printed
    assert "'../2.mp4' is not a plain relative name: passed over" in printed
    assert "3 videos in 1 shards are indexed" in printed
    assert "1 of them cannot be read" in printed
    assert (tmp_path / "a.tar").read_bytes() == data
    source = open_source(tmp_path)
    assert [(s.key, s.label, s.caption) for s in source.samples] == [
        ("a/0", "3", "a caption"),
        (f"a/{'long' * 60}", None, None),
        ("a/3", None, None),
    ]
    assert dataset_of(tmp_path).codecs["unreadable"] == 1


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (tar_bytes(("a.mp4", VIDEO), ("a.mp4", VIDEO)), "holds a.mp4 twice"),
        (tar_bytes(("a.mp4", VIDEO), ("b.mp4", VIDEO))[:3000], "is cut short"),
        (b"no tar" * 1000, "is not a readable tar file"),
        (tar_bytes(("a.mp4", VIDEO), ("a.json", b"{")), "the text beside the video cannot be read"),
    ],
)
def test_what_cannot_be_indexed_changes_nothing(tmp_path, data, sentence, capsys):
    (tmp_path / "a.tar").write_bytes(tar_bytes(("a.mp4", VIDEO)))
    (tmp_path / "x.tar").write_bytes(data)
    assert main(["index", str(tmp_path), "--jobs", "0"]) == 2
    error = capsys.readouterr().err
    assert "x.tar" in error
    assert sentence in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "x.tar"]


def test_info(folder, capsys):
    assert main(["info", str(folder), "--seconds", "0.3", "--labels", "2"]) == 0
    printed = capsys.readouterr().out
    for line in (
        "videos     24 in ", "codecs     24 h264", "labels     3", "8 class0", "8 with 1 other labels",
        "duration   0.0 to 0.3 s, median 0.2", "pixels     24 128 x 64", "ms per clip of 16 frames at 224 x 224",
        "clips/s per thread", "measured here and now",
    ):  # fmt: skip
        assert line in printed
    assert main(["info", str(folder), "--seconds", "0"]) == 0
    assert "measured" not in capsys.readouterr().out


def test_commands_explain_themselves(capsys):
    assert main([]) == 2
    assert main(["nonsense"]) == 2
    assert "there are demo, pack, check, info, index" in capsys.readouterr().err
    for command in ("demo", "pack", "check", "info", "index"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert f"fastvid.data {command}" in capsys.readouterr().out


def test_an_index_for_a_video_elsewhere_is_a_fault(folder):
    """An index whose checksums are right, made by somebody else."""
    tar = sorted(folder.glob("*.tar"))[0]
    size = tar.stat().st_size
    entry = load_index(tar)[0]
    content_ = index_bytes(tar.name, size, [Entry(entry.key, size - 10, entry.size, entry.crc32, entry.video)])
    (folder / "shard-000000.index.jsonl").write_bytes(content_)
    described = json.loads((folder / "dataset.json").read_bytes())
    assert described["shards"][0]["index_sha256"]
    assert any("is not the index that dataset.json names" in what for _, _, what, _ in faults(folder))
