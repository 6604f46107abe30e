"""Streaming to disks that are full, or cannot be written to."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from fastvid.data.sources.open_stream import open_stream
from fastvid.data.storage.disk_cache import OVERHEAD
from fastvid.data.storage.remote import Remote, StreamError
from tests.data.shard_server import ShardServer, make_shards, padded_video

TAR = "s00-000000.tar"


@pytest.fixture
def server(tmp_path):
    make_shards(tmp_path / "original", 4)
    with ShardServer(tmp_path / "original") as running:
        yield running


def opened(server, cache):
    return open_stream(Remote(server.url, 3, 0.01, 5.0), cache, OVERHEAD + 500_000, 2)


def test_a_folder_that_cannot_be_written_to(server, tmp_path):
    for folder in (Path("/sys/kernel"), tmp_path / "file" / "below"):
        if folder.parts[1] != "sys":
            folder.parent.write_bytes(b"")
        with pytest.raises(ValueError, match=rf"{folder}/streamed .*FASTVID_CACHE"):
            opened(server, folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(server, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(ValueError, match=r"\(Permission denied\)"):
        opened(server, tmp_path / "cache")


def full_disk(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_met_before_the_download(server, tmp_path, monkeypatch):
    source = opened(server, tmp_path / "cache")
    source.samples[0]  # the index is there
    monkeypatch.setattr(os, "posix_fallocate", full_disk)
    with pytest.raises(StreamError, match=r"s00-000000\.tar \([\d.]+ kB\) cannot be kept in .*: No space left"):
        source.read(0)
    assert server.requests[TAR] == 0
    assert not list(tmp_path.rglob("*.part"))
    monkeypatch.undo()
    assert source.read(0) == padded_video(40_000, 0)


def test_a_disk_that_fills_up_where_space_cannot_be_reserved(server, tmp_path, monkeypatch):
    source = opened(server, tmp_path / "cache")
    source.samples[0]

    def unknown(*arguments):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unknown)
    assert source.read(2) == padded_video(40_000, 2)
    monkeypatch.setattr(os, "pwrite", full_disk)
    with pytest.raises(StreamError, match="No space left on device"):
        source.read(0)
    assert server.requests[TAR] == 1  # the disk is no fault of the server's: not tried again
    assert not list(tmp_path.rglob("*.part"))


def test_a_small_tmpfs(server, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount")
    try:
        source = opened(server, disk)
        assert source.read(0) == padded_video(40_000, 0)
        with pytest.raises(StreamError, match=r"No space left on device; [\d.]+ [kM]?B are free there"):
            source.read(2)
        assert not list(disk.rglob("*.part"))
        assert source.read(1) == padded_video(40_000, 1)
        del source
    finally:
        subprocess.run(["umount", disk], check=True)
