import signal
import subprocess
import sys
import time

import pytest

from fastvid.data import open_source
from fastvid.data.shards.dataset_json import NAME
from fastvid.data.sources.open_stream import open_stream
from fastvid.data.storage.disk_cache import OVERHEAD, DiskCache
from fastvid.data.storage.remote import Remote, StreamError
from tests.data.shard_server import ShardServer, describe, make_shards, padded_video
from tests.waiting import HANG, wait_for

TAR, INDEX = "s00-000000.tar", "s00-000000.index.jsonl"
BUDGET = OVERHEAD + 500_000

READER = """
import sys
from pathlib import Path
from fastvid.data.storage.remote import Remote
from fastvid.data.sources.open_stream import open_stream
url, cache, budget, threads, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
from concurrent.futures import ThreadPoolExecutor
source = open_stream(Remote(url, 3, 0.01, 300.0), cache, budget, 2)
print("open", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(threads) as pool:
    for row, data in zip(rows, pool.map(source.read, map(int, rows))):
        print(row, len(data), data[-4:].hex(), flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    make_shards(tmp_path / "original", 4)
    return tmp_path / "original"


@pytest.fixture
def server(folder):
    with ShardServer(folder) as running:
        yield running


def opened(server, cache, attempts=3, stall=HANG, budget=BUDGET):
    return open_stream(Remote(server.url, attempts, 0.01, stall), cache, budget, 2)


def stall_for(fault):
    """Seconds without a byte after which an attempt is given up: short only where a test waits for that."""
    return 1.0 if fault in ("silent", "stall") else HANG


def reader(server, cache, rows, budget=BUDGET, threads=1):
    arguments = [server.url, cache, budget, threads, *rows]
    return subprocess.Popen(
        [sys.executable, "-c", READER, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip


def expected(rows):
    return "".join(f"{row} 40000 {padded_video(40_000, row)[-4:].hex()}\n" for row in rows)


@pytest.mark.parametrize("name", [NAME, INDEX, TAR])
@pytest.mark.parametrize("fault", [500, 503, "silent", "stall", "truncate", "short", "flip", "long"])
def test_a_fault_that_passes(server, tmp_path, name, fault):
    server.faults[name] = [fault, fault]
    if name == NAME and fault in ("short", "flip", "long"):  # it has its checksum inside
        with pytest.raises(ValueError, match=rf"{NAME} is damaged"):
            opened(server, tmp_path / "cache")
        return
    source = opened(server, tmp_path / "cache", stall=stall_for(fault))
    assert source.read(0) == padded_video(40_000, 0)
    assert server.requests[name] == 3
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", [INDEX, TAR])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (500, "ClientResponseError: 500"),
        ("silent", "nothing came for 1 s|Timeout"),
        ("stall", "nothing came for 1 s|Timeout"),
        ("truncate", "ClientPayloadError"),
        ("short", r"the answer ended after \d+ of \d+ bytes"),
        ("flip", r"its sha256 is [0-9a-f]{64} where dataset\.json says [0-9a-f]{64}"),
        ("long", r"more than the \d+ bytes that dataset\.json says"),
    ],
)
def test_a_shard_that_stays_bad_is_named_and_not_used(server, tmp_path, name, fault, words):
    source = opened(server, tmp_path / "cache", stall=stall_for(fault))
    server.faults[name] = [fault] * 3
    with pytest.raises(StreamError, match=words) as caught:
        source.read(0)
    assert f"{server.url}/{name} could not be fetched in 3 attempts" in str(caught.value)
    assert not isinstance(caught.value, OSError)  # which would make it one bad sample
    assert name not in {path.name for path in tmp_path.glob("cache/**/*")}
    assert not list(tmp_path.rglob("*.part"))
    assert source.read(0) == padded_video(40_000, 0)  # the server has recovered


def test_fetching_ahead_leaves_errors_to_the_read(server, tmp_path, caplog):
    source = opened(server, tmp_path / "cache", attempts=1)
    server.faults[TAR] = [500]
    source.prefetch([0], [1])
    wait_for(lambda: list(tmp_path.rglob("cache/**/s01*.tar")))
    assert f"fetching ahead: {server.url}/{TAR} could not be fetched" in caplog.text
    server.faults[TAR] = [500]
    with pytest.raises(StreamError, match="could not be fetched"):
        source.read(0)
    assert source.read(0) == padded_video(40_000, 0)


@pytest.mark.parametrize(
    ("status", "words"), [(404, "is not there, and dataset.json names it"), (403, "was refused"), (401, "credentials")]
)
def test_what_does_not_pass_is_not_tried_again(server, tmp_path, status, words):
    source = opened(server, tmp_path / "cache")
    server.faults[TAR] = [status]
    with pytest.raises(StreamError, match=words) as caught:
        source.read(0)
    assert f"{server.url}/{TAR}" in str(caught.value)
    assert server.requests[TAR] == 1


def test_waits_double(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.faults[NAME] = [500] * 9
    with pytest.raises(StreamError, match="in 9 attempts"):
        Remote(server.url, attempts=9, wait=0.5).read(NAME, 1 << 20)
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60]


def test_what_cannot_be_opened(server, folder, tmp_path):
    with pytest.raises(ValueError, match=r"s4://b/shards cannot be opened: .*'s4'"):
        open_source("s4://b/shards", cache_dir=tmp_path / "cache")
    with pytest.raises(ValueError, match=r"shards in .* carry their own labels"):
        open_source(server.url, "labels.csv", cache_dir=tmp_path / "cache")
    server.faults[NAME] = [403]
    with pytest.raises(ValueError, match=f"access to {server.url}/{NAME} was refused"):
        open_source(server.url, cache_dir=tmp_path / "cache")
    (folder / NAME).unlink()
    with pytest.raises(FileNotFoundError, match=r"dataset\.json is not there: .*`python -m fastvid\.data index`"):
        open_source(server.url, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ValueError, match=r"gs://b/shards cannot be opened: .*\(`pip install 'gcsfs'`\)"):
        open_source("gs://b/shards", cache_dir=tmp_path)


def test_a_shard_packed_wrong_is_a_bad_sample_only(server, folder, tmp_path):
    from fastvid.video import DecodeError

    tar = folder / TAR
    data = bytearray(tar.read_bytes())
    data[20_000] ^= 1  # before dataset.json was made: the transport is right, the video is not what was indexed
    tar.write_bytes(data)
    describe(folder)
    source = opened(server, tmp_path / "cache")
    with pytest.raises(DecodeError, match=r"s00-000000\.tar"):
        source.read(0)
    assert source.read(1) == padded_video(40_000, 1)
    assert server.requests[TAR] == 1


def test_killed_in_the_middle_of_a_download(server, tmp_path):
    server.faults[TAR] = ["slow"]
    first = reader(server, tmp_path / "cache", [0])
    assert first.stdout.readline() == "open\n"
    first.stdin.write("\n")
    wait_for(lambda: list(tmp_path.rglob("*.tar.part")))
    second = reader(server, tmp_path / "cache", range(8))
    assert second.stdout.readline() == "open\n"
    second.stdin.write("\n")
    time.sleep(0.3)  # it waits for the first one's download
    assert server.requests[TAR] == 1
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.communicate(timeout=HANG)[0] == expected(range(8))
    assert server.requests[TAR] == 2
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob("*.tar.part"))


def test_a_killed_downloads_leftover_is_removed(server, tmp_path):
    server.faults[TAR] = ["slow"]
    process = reader(server, tmp_path / "cache", [0])
    process.stdout.readline()
    process.stdin.write("\n")
    wait_for(lambda: list(tmp_path.rglob("*.tar.part")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.rglob("*.part"))
    assert opened(server, tmp_path / "cache").read(2) == padded_video(40_000, 2)  # another shard
    assert not list(tmp_path.rglob("*.part"))


def test_two_processes_on_one_cache(tmp_path):
    make_shards(tmp_path / "original", 10)
    budget = OVERHEAD + 4 * 98_304  # two windows of two shards, of ten
    with ShardServer(tmp_path / "original") as server:
        cache = tmp_path / "cache"
        together = [reader(server, cache, range(4), budget) for _ in range(2)]
        for process in together:
            assert process.stdout.readline() == "open\n"
        for process in together:
            process.stdin.write("\n")
        assert [process.communicate(timeout=HANG)[0] for process in together] == [expected(range(4))] * 2
        assert (server.requests[TAR], server.requests["s01-000000.tar"]) == (1, 1)
        rows = list(range(20)), list(range(19, -1, -1))  # opposite orders, three threads each
        apart = [reader(server, cache, order, budget, 3) for order in rows]
        for process in apart:
            process.stdout.readline()
        for process in apart:
            process.stdin.write("\n")
        most = 0
        until = time.monotonic() + HANG
        while any(process.poll() is None for process in apart):
            assert time.monotonic() < until
            most = max(most, DiskCache(cache / "streamed", budget).used())
        assert [process.stdout.read() for process in apart] == [expected(order) for order in rows]
        assert budget // 2 < most <= budget


def test_no_torch():
    modules = "fastvid.data.sources.open_stream, fastvid.data.sources.filesystem, fastvid.data.source"
    code = f"import sys, {modules}; sys.exit(any(m in sys.modules for m in ('torch', 'fsspec', 'aiohttp')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
