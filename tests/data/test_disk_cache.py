import io

import pytest

from fastvid.data.storage.disk_cache import MARKER, OVERHEAD, DiskCache, InUse
from fastvid.data.storage.remote import StreamError


def test_other_files_count_and_stay(tmp_path):
    cache = DiskCache(tmp_path / "new", 200_000)
    (tmp_path / "new" / "folder").mkdir()
    (tmp_path / "new" / "folder" / "notes.txt").write_bytes(b"n" * 90_000)  # put there in spite of the marker
    with pytest.raises(InUse):
        cache.lease("f/x.tar", 150_000, lambda file: None)
    assert (tmp_path / "new" / "folder" / "notes.txt").exists()
    assert MARKER in {path.name for path in (tmp_path / "new").iterdir()}


def test_a_smaller_budget_holds_from_the_start(tmp_path):
    cache = DiskCache(tmp_path, OVERHEAD + 20 * 4096)
    for i in range(20):
        cache.lease(f"f/{i:02d}.tar", 4096, lambda file: None, stamp=i).close()
    assert cache.used() >= 20 * 4096
    kept = cache.lease("f/00.tar", 4096, lambda file: None, stamp=0)
    smaller = DiskCache(tmp_path, 10 * 4096)
    assert smaller.used() <= 10 * 4096
    left = {path.name for path in (tmp_path / "f").iterdir()}
    assert {"00.tar", "19.tar"} <= left  # the one that is being read, and the latest
    kept.close()


def test_leases_of_a_cache(tmp_path):
    cache = DiskCache(tmp_path / "c", OVERHEAD + 3 * 4096)
    made = []

    def make(number):
        def write(file):
            made.append(number)
            io.FileIO(file, "w", closefd=False).write(bytes([number]) * 4000)

        return write

    first = cache.lease("f/1.tar", 4000, make(1), stamp=1)
    cache.lease("f/2.tar", 4000, make(2), stamp=2).close()
    cache.lease("f/3.tar", 4000, make(3), stamp=2).close()
    while cache.used() + 4096 <= cache.budget:  # what folders take differs between file systems
        cache.lease(f"f/more-{len(made)}.tar", 4000, make(9), stamp=3).close()
    cache.lease("f/4.tar", 4000, make(4), stamp=4).close()  # 1 is the oldest, but leased: 2 and 3 go together
    names = {path.name for path in (tmp_path / "c" / "f").iterdir()}
    assert {"1.tar", "4.tar"} <= names
    assert not {"2.tar", "3.tar"} & names
    assert first.read() == b"\1" * 4000
    assert not cache.drop("f/1.tar")
    first.close()
    assert cache.drop("f/1.tar")
    with pytest.raises(RuntimeError, match="on purpose"):
        cache.lease("f/5.tar", 10, lambda file: (_ for _ in ()).throw(RuntimeError("on purpose")))
    assert not list((tmp_path / "c").rglob("*.part"))


def test_a_download_by_another_process_that_stands_still(tmp_path):
    cache = DiskCache(tmp_path / "cache", OVERHEAD + 500_000, patience=0.3)
    part = cache._reserve("f/x.tar", 1000, ())
    with pytest.raises(StreamError, match=r"another process .*x\.tar\.part"):
        cache.lease("f/x.tar", 1000, lambda file: None)
    part.close()
    with cache.lease("f/x.tar", 1000, lambda file: None) as lease:
        assert len(lease.readall()) == 1000
