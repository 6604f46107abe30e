import os
import re
import time
from pathlib import Path

import pytest

from fastvid.data.sources import filesystem
from fastvid.data.sources.filesystem import filesystem_type, slow_filesystem_warning

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:40 / /mnt/c rw,noatime shared:7 master:1 - 9p drvfs rw,dirsync
41 27 0:41 / /mnt/c/fast rw - tmpfs tmpfs rw
42 27 0:42 / /mnt/my\040disk rw - ntfs3 /dev/sdb1 rw
43 27 0:43 / /net rw - nfs4 host:/net rw
44 27 0:44 / /both rw - ext4 /dev/sdc rw
45 27 0:45 / /both rw - fuse.sshfs host: rw
a line of another kind
"""


@pytest.fixture
def mountinfo(tmp_path):
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/videos", "ext4"), ("/", "ext4"), ("/mnt/c", "9p"), ("/mnt/c/videos", "9p"), ("/mnt/cd", "ext4"),
        ("/mnt/c/fast/x", "tmpfs"), ("/mnt/my disk/a", "ntfs3"), ("/net/x", "nfs4"), ("/both/x", "fuse.sshfs"),
    ],
)  # fmt: skip
def test_the_type_of_a_path(mountinfo, path, kind):
    assert filesystem_type(Path(path), mountinfo) == kind


def test_this_machine(tmp_path):
    assert filesystem_type(Path("/proc")) == "proc"
    assert filesystem_type(tmp_path.resolve()) not in ("", "proc")
    assert filesystem_type(tmp_path, tmp_path / "no such file") == ""


@pytest.mark.parametrize(
    ("kind", "way_out"), [("9p", "in WSL, copy it from /mnt"), ("nfs4", "copy it to a local disk")]
)
def test_a_slow_one_is_measured(tmp_path, monkeypatch, kind, way_out):
    for i in range(3):
        (tmp_path / f"{i}.tar").write_bytes(bytes(3 << 20))
    read = []
    pread = os.pread

    def counted(*arguments):
        read.append(len(data := pread(*arguments)))
        return data

    monkeypatch.setattr(os, "pread", counted)
    monkeypatch.setattr(filesystem, "filesystem_type", lambda path: kind)
    warning = slow_filesystem_warning(tmp_path)
    assert f"{tmp_path.resolve()} is on a {kind} file system" in warning
    assert way_out in warning
    assert "`python -m fastvid.data pack`" in warning
    assert sum(read) == 3 * (3 << 20) + (32 << 20)
    speeds = [int(x) for x in re.findall(r"(\d+) MB/s", warning)]
    assert len(speeds) == 2
    assert all(speed > 0 for speed in speeds)


def test_measuring_is_bounded(tmp_path, monkeypatch):
    with (tmp_path / "large.tar").open("wb") as file:
        file.truncate(1 << 34)
    monkeypatch.setattr(filesystem, "filesystem_type", lambda path: "drvfs")
    done = []
    pread = os.pread

    def slow(file, size, at):
        time.sleep(0.05)
        done.append(size)
        return pread(file, size, at)

    monkeypatch.setattr(os, "pread", slow)
    warning = slow_filesystem_warning(tmp_path / "large.tar")
    assert len(done) <= 2 * 21  # a second of each kind of reading
    speeds = [int(x) for x in re.findall(r"(\d+) MB/s", warning)]
    assert speeds[0] <= 21  # 1 MiB in at least 50 ms
    assert speeds[1] <= 2


def test_nothing_to_say(tmp_path, monkeypatch):
    assert slow_filesystem_warning(Path("/proc")) is None
    monkeypatch.setattr(filesystem, "filesystem_type", lambda path: "vboxsf")
    assert "its speed could not be measured" in slow_filesystem_warning(tmp_path)
