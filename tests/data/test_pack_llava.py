import io

from fastvid.data import open_source
from fastvid.data.__main__ import main
from fastvid.data.pack import command
from fastvid.data.pack.archive import Archive
from fastvid.data.pack.llava import llava
from fastvid.data.pack.run import Packing
from tests.data.packing import pack_folder
from tests.data.packs import VIDEOS, make_llava, rejects_of


def test_llava_archives_are_read_as_streams(tmp_path):
    make_llava(tmp_path / "src")
    assert (
        main(["pack", str(tmp_path / "src"), "--out", str(tmp_path / "out"), "--format", "llava", "--jobs", "2"]) == 0
    )
    source = open_source(tmp_path / "out")
    assert [s.caption for s in source.samples] == [f"part{a}/{i}.mp4" for a in range(3) for i in range(6)]
    for row, sample in enumerate(source.samples):
        archive, number = int(sample.caption[4]), int(sample.caption[6])
        assert source.read(row) == VIDEOS[(archive + number) % 8]
    assert [(r["path"], r["detail"]) for r in rejects_of(tmp_path / "out")] == [("lost.mp4", "no archive holds it")]


def test_llava_archives_behind_a_url_are_streamed_and_a_lost_connection_loses_nothing(tmp_path, monkeypatch, capsys):
    make_llava(tmp_path / "src")
    monkeypatch.setenv("FASTVID_CACHE", str(tmp_path / "cache"))
    options = ("--format", "llava", "--jobs", "0")
    assert main(["pack", str(tmp_path / "src"), "--out", str(tmp_path / "whole"), *options]) == 0
    opened = []
    real = Archive._open

    class Lossy(io.BytesIO):
        def read(self, size=-1):
            if len(opened) == 2 and self.tell() > 8_000:
                raise ConnectionResetError("the server is gone")
            return super().read(size)

    def open_(self):
        opened.append(self.path)
        with real(self) as file:
            return Lossy(file.read())

    monkeypatch.setattr(Archive, "_open", open_)
    monkeypatch.setattr(command, "Packing", lambda **options: Packing(**{**options, "shard_bytes": 8_000}))
    pack = ["pack", f"file://{tmp_path}/src", "--out", str(tmp_path / "out"), *options]
    assert main(pack) == 1
    assert (
        "v1.tar.gz could not be read to its end (ConnectionResetError: the server is gone)" in capsys.readouterr().err
    )
    assert main(pack) == 0
    assert [path[-9:] for path in opened] == ["v0.tar.gz", "v1.tar.gz", "v1.tar.gz", "v2.tar.gz"]
    left, right = (open_source(tmp_path / name) for name in ("whole", "out"))
    assert [sample.caption for sample in left.samples] == [sample.caption for sample in right.samples]
    assert [left.read(row) for row in range(18)] == [right.read(row) for row in range(18)]
    held = sorted(path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert held == [".json"]  # of the archives nothing is kept


def test_a_cut_archive_is_named_and_what_it_held_too(tmp_path):
    make_llava(tmp_path / "src", cut=True)
    outcome = pack_folder(None, tmp_path / "out", 0, 8_000, collection=llava(tmp_path / "src")[""])
    rejects = rejects_of(tmp_path / "out")
    assert rejects[0]["path"] == "v1.tar.gz"
    assert "the archive is damaged, what follows in it is lost" in rejects[0]["detail"]
    lost = {line["path"] for line in rejects[1:]}
    kept = {sample.caption for sample in open_source(tmp_path / "out").samples}
    assert not lost & kept
    assert len(lost | kept) == 19
    assert outcome.dataset.samples == len(kept) >= 12
