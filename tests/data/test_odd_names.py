"""File names that are no UTF-8: one spelling in keys, ids, records and pages, and no door fails on them."""

import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import tarfile

import pytest

from fastvid.command import UserError
from fastvid.data import Quarantine, classes_of, open_source
from fastvid.data.commands.index import IndexCommand
from fastvid.data.commands.index import run as run_index
from fastvid.data.commands.info import InfoCommand
from fastvid.data.commands.info import run as run_info
from fastvid.data.pack.command import PackCommand
from fastvid.data.pack.command import run as run_pack
from fastvid.data.source import origin_of
from fastvid.latents.manifest import dataset_hash
from fastvid.names import print_any_name, spelled
from fastvid.predict import _videos
from fastvid.random import SampleRandom, sample_id
from fastvid.report.markup import document
from fastvid.train.config import Launch, RunConfig
from fastvid.train.logs import log_to, start_logging
from fastvid.train.session import start
from fastvid.video import View, ViewSpec
from tests.data.loading import train_loader
from tests.video.clips import encode

VIDEO = encode(8)
ODD = os.fsdecode(b"caf\xe9")


@pytest.fixture
def folder(tmp_path):
    """Two classes, one of which has a name in Latin-1, as its videos have."""
    root = tmp_path / os.fsdecode(b"daten-\xfc")
    for name in ("run/a.mp4", f"{ODD}/{ODD}.mp4", f"{ODD}/b.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(VIDEO)
    return root


def test_spelling():
    assert spelled(ODD) == r"caf\xe9"
    assert spelled("\ud800") == r"\ud800"
    for name in ("run/a.mp4", "é/ü 1.mp4", r"a\b", "\U0001f600", "日本"):
        assert spelled(name) == name


def test_ids_of_ordinary_names_are_what_they_were():
    assert sample_id("train/000001.mp4") == 8656661574331882428
    for key in ("é/ü.mp4", r"a\xe9.mp4", "日本"):
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        assert sample_id(key) == int.from_bytes(digest, "little") & (2**63 - 1)
    view = View("é.mp4", (0, 1), (0, 0, 4, 4), False, 8)
    text = "é.mp4\0(0, 1)\0(0, 0, 4, 4)\0False\0008"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    assert view.hash == int.from_bytes(digest, "little") & (2**63 - 1)


def test_ids_and_hashes_of_odd_names_are_those_of_their_spelling():
    assert sample_id(ODD) == sample_id(r"caf\xe9")
    assert SampleRandom(ODD, 0, 0).word() == SampleRandom(r"caf\xe9", 0, 0).word()
    assert View(ODD, (0,), (0, 0, 4, 4), False, 8).hash == View(r"caf\xe9", (0,), (0, 0, 4, 4), False, 8).hash


def test_a_folder_of_odd_names_loads(folder, tmp_path):
    source = open_source(folder)
    assert [sample.key for sample in source.samples] == [r"caf\xe9/b.mp4", r"caf\xe9/caf\xe9.mp4", "run/a.mp4"]
    assert classes_of(source) == [r"caf\xe9", "run"]
    assert source.read(1) == VIDEO
    assert origin_of(source, 1).name == r"caf\xe9/caf\xe9"  # as the packer names it
    assert dataset_hash(folder, source).startswith("keys and sizes ")
    source.description.encode()
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    with train_loader(source, ViewSpec(frames=2, size=16), batch=3, seed=0, quarantine=quarantine) as loader:
        batch = next(iter(loader))
    assert sorted(batch.keys) == [sample.key for sample in source.samples]
    (folder / ODD / f"{ODD}.mp4").unlink()
    with train_loader(source, ViewSpec(frames=2, size=16), batch=2, seed=0, quarantine=quarantine) as loader:
        next(iter(loader))
    (record,) = map(json.loads, (tmp_path / "bad.jsonl").read_text(encoding="utf-8").splitlines())
    assert record["key"] == r"caf\xe9/caf\xe9.mp4"
    assert record["detail"].startswith(f"{tmp_path}/daten-\\xfc/caf\\xe9/caf\\xe9.mp4: No such file")


def test_a_table_of_labels_names_odd_files_as_they_are_spelled(folder, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_bytes(b"path,label\n" + rb"caf\xe9/caf\xe9.mp4,sit" + b"\n")
    assert [sample.label for sample in open_source(folder, table).samples] == [None, "sit", None]
    table.write_bytes(b"path,label\ncaf\xe9/caf\xe9.mp4,sit\n")  # a table is text in UTF-8
    with pytest.raises(ValueError, match=r"labels.csv.*line 2"):
        open_source(folder, table)


def test_two_files_of_one_spelling_are_refused(tmp_path):
    for name in (ODD, r"caf\xe9"):
        (tmp_path / f"{name}.mp4").write_bytes(VIDEO)
    with pytest.raises(ValueError, match=r"two files below .* would both be"):
        open_source(tmp_path)


def test_packing_indexing_and_telling(folder, tmp_path, capsys):
    (folder / ODD / "broken.mp4").write_bytes(b"no video")
    out = tmp_path / os.fsdecode(b"out-\xe9")
    print_any_name()
    assert run_pack(PackCommand(str(folder), str(out), jobs=0, max_rejects=1)) == 0
    (record,) = map(json.loads, (out / "rejects.jsonl").read_text(encoding="utf-8").splitlines())
    assert (record["key"], record["path"]) == (r"caf\xe9/broken", r"caf\xe9/broken.mp4")
    assert run_info(InfoCommand(out, seconds=0)) == 0
    assert r"caf\xe9" in capsys.readouterr().out
    source = open_source(out)
    assert sorted(s.key.partition("/")[2] for s in source.samples) == [r"caf\xe9/b", r"caf\xe9/caf\xe9", "run/a"]
    (out / "dataset.json").unlink()
    (out / "shard-000000.tar").rename(out / f"{ODD}.tar")
    assert run_index(IndexCommand(out, jobs=0)) == 0
    assert {s.key.partition("/")[0] for s in open_source(out).samples} == {r"caf\xe9"}
    assert dataset_hash(out, source)


def test_odd_names_in_a_tar(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo(f"{ODD}.mp4")
        info.size = len(VIDEO)
        tar.addfile(info, io.BytesIO(VIDEO))
    source = open_source(tmp_path)
    assert [sample.key for sample in source.samples] == [r"x/caf\xe9"]
    assert source.read(0) == VIDEO


def test_prediction_names_them(folder):
    named = [name for name, _ in _videos([str(folder), str(folder / "run/a.mp4")])]
    root = spelled(folder)
    assert named == [*(f"{root}/{sample.key}" for sample in open_source(folder).samples), f"{root}/run/a.mp4"]


def test_pages_and_logs_take_them(tmp_path):
    assert r"caf\xe9" in document(ODD, []).encode().decode()
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        start_logging()
        log_to(tmp_path / "log.txt")
        logging.getLogger("fastvid").info("run %s", ODD)
    finally:
        logging.captureWarnings(False)
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = before
        root.setLevel(level)
    assert "run caf" in (tmp_path / "log.txt").read_bytes().decode("utf-8")


def test_a_command_prints_them(folder, tmp_path):
    code = (
        "import os, sys; from fastvid.data.__main__ import main; sys.stdout.reconfigure(errors='strict'); "
        f"sys.exit(main(['pack', os.fsdecode({os.fsencode(folder)!r}), '--out', "
        f"os.fsdecode({os.fsencode(tmp_path)!r} + b'/o\\xe9'), '--jobs', '0']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert "3 videos in 1 shards" in done.stdout.decode("utf-8")


def test_a_run_directory_has_to_be_utf8(tmp_path):
    where = tmp_path / ODD
    options = RunConfig(dir=str(where))
    with pytest.raises(UserError, match="TensorBoard"):
        start("salt", {}, options, Launch(None, False), lambda session: None)
    assert not where.exists()
