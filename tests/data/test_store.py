import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fastvid.data import EpochOrder, open_source
from fastvid.data.sources.open_stream import check_budget, open_stream
from fastvid.data.storage.disk_cache import OVERHEAD, DiskCache, disk_size
from fastvid.data.storage.remote import Remote, StreamError
from fastvid.data.storage.streamed_shards import StreamedShards
from fastvid.video import ViewSpec
from tests.data.loading import train_loader
from tests.data.shard_server import ShardServer, make_shards, padded_video
from tests.waiting import HANG, wait_for


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    make_shards(folder, 20)
    return folder


@pytest.fixture
def server(original):
    with ShardServer(original) as running:
        yield running


def budget_of(dataset, shards):
    """Of a cache that holds ``shards`` shards and not a byte more; they are all of one size here."""
    (size,) = {disk_size(s.bytes) + disk_size(s.index_bytes) for s in dataset.shards}
    return OVERHEAD + shards * size


def quick(url, **changes):
    return Remote(url, **{"attempts": 3, "wait": 0.01, "stall": HANG, **changes})


def store_of(source, **options):
    """The shards behind a source, with other waits."""
    files = source._files
    return StreamedShards(files._remote, files._dataset, files._cache, **{"linger": 0.0, "patience": HANG, **options})


def cached(folder, suffix=".tar"):
    return {path.name[:3] for path in folder.rglob(f"*{suffix}")}


def test_a_url_reads_like_the_folder(original, server, tmp_path):
    local = open_source(original)
    streamed = open_source(server.url, cache_dir=tmp_path, window=4)
    assert len(streamed.samples) == 40
    assert [s.key for s in streamed.samples] == [s.key for s in local.samples]
    assert streamed.samples[7].video.frames == 8
    assert streamed.shard_sizes == local.shard_sizes
    assert server.url in streamed.description
    assert streamed.size(3) == 40_000
    assert all(streamed.read(i) == local.read(i) == padded_video(40_000, i) for i in range(40))
    assert set(server.requests.values()) == {1}
    again = open_source(server.url, cache_dir=tmp_path, window=4)
    assert again.read(5) == local.read(5)
    assert server.requests["s02-000000.tar"] == 1
    assert open_source(server.url, cache_dir=tmp_path).classes() == local.classes() == ["0", "1"]


def test_the_same_batches_from_a_cache_of_two_windows(original, server, tmp_path):
    def batches(source):
        spec = ViewSpec(frames=4, size=32)
        with train_loader(source, spec, batch=8, seed=0, window=2, threads=2) as loader:
            return [(batch.keys, batch.clips) for batch, _ in zip(loader, range(10), strict=False)]  # two epochs

    budget = budget_of(make_shards(tmp_path / "same", 1), 4)
    streamed = batches(open_stream(quick(server.url), tmp_path / "cache", budget, 2))
    local = batches(open_source(original))
    assert [keys for keys, _ in streamed] == [keys for keys, _ in local]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(streamed, local, strict=True))


def test_file_urls_and_their_originals(original, tmp_path):
    before = {path: path.read_bytes() for path in original.iterdir()}
    source = open_stream(quick(f"file://{original}"), tmp_path, budget_of(make_shards(tmp_path / "x", 1), 20), 2)
    assert [source.read(i) for i in range(40)] == [padded_video(40_000, i) for i in range(40)]
    assert {path: path.read_bytes() for path in original.iterdir()} == before


def test_the_disk_never_takes_more_than_the_budget(original, server, tmp_path, monkeypatch):
    dataset = make_shards(tmp_path / "same", 1)
    budget = budget_of(dataset, 4)
    assert sum(p.stat().st_size for p in original.iterdir()) > 4.5 * (budget - OVERHEAD)
    peaks, seen, done = [], [], threading.Event()
    reserve = DiskCache._reserve

    def counted(self, *arguments):  # a download takes its room here: nothing else makes the folder grow
        part = reserve(self, *arguments)
        peaks.append(self.used())
        return part

    monkeypatch.setattr(DiskCache, "_reserve", counted)

    def sample():
        while not done.is_set():
            total = 0
            for path in (tmp_path / "cache").rglob("*"):
                try:
                    total += path.stat().st_size
                except FileNotFoundError:
                    continue
            seen.append(total)

    source = open_stream(quick(server.url), tmp_path / "cache", budget, 2)
    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        with ThreadPoolExecutor(3) as pool:
            for epoch in range(2):
                order = EpochOrder(0, epoch, source.shard_sizes, 2)
                for window in range(order.windows):
                    source.prefetch(order.shards_of(window), order.shards_of(window + 1))  # none after the last
                    rows = [i for i in order if i // 2 in order.shards_of(window)]
                    assert list(pool.map(source.read, rows)) == [padded_video(40_000, i) for i in rows]
    finally:
        done.set()
        watcher.join()
    assert len(seen) > 50
    assert budget // 2 < max(seen) <= budget
    assert budget // 2 < max(peaks) <= budget
    tars = {name: n for name, n in server.requests.items() if name.endswith(".tar")}
    assert len(tars) == 20
    assert max(tars.values()) == 2  # once an epoch


def test_a_stage_fetches_two_windows_and_evicts_whole_ones(original, server, tmp_path):
    dataset = make_shards(tmp_path / "same", 1)
    store = store_of(open_stream(quick(server.url), tmp_path, budget_of(dataset, 6), 2))
    store.prefetch([0, 1], [2, 3])
    wait_for(lambda: cached(tmp_path / "streamed") == {"s00", "s01", "s02", "s03"})
    store.prefetch([2, 3], [4, 5])
    wait_for(lambda: cached(tmp_path / "streamed") == {"s00", "s01", "s02", "s03", "s04", "s05"})
    store.prefetch([4, 5], [6])
    wait_for(lambda: cached(tmp_path / "streamed") == {"s02", "s03", "s04", "s05", "s06"})
    assert cached(tmp_path / "streamed", ".index.jsonl") == {"s02", "s03", "s04", "s05", "s06"}
    assert server.requests["s06-000000.tar"] == server.requests["s00-000000.tar"] == 1
    store.close()


def test_what_is_being_read_is_not_deleted(original, server, tmp_path):
    dataset = make_shards(tmp_path / "same", 1)
    source = open_stream(quick(server.url), tmp_path, budget_of(dataset, 4), 2)
    store, other = store_of(source), store_of(source)
    store.prefetch([0, 1], [2])
    wait_for(lambda: cached(tmp_path / "streamed") == {"s00", "s01", "s02"} and store._thread is None)
    for shard in range(2, 20):  # another process, say
        assert len(other.read(shard, 0, 100)) == 100
        assert {"s00", "s01"} <= cached(tmp_path / "streamed")
    other.prefetch([18, 19], [])
    wait_for(lambda: other._thread is None)
    third = store_of(source, patience=0.5)
    with pytest.raises(StreamError, match=r"s05-000000\.tar cannot be fetched: .*--data\.disk"):
        third.read(5, 0, 100)
    store.close()
    assert len(third.read(5, 0, 100)) == 100
    assert {"s18", "s19"} <= cached(tmp_path / "streamed")


def test_fetching_ahead_takes_nothing_from_itself(original, server, tmp_path):
    dataset = make_shards(tmp_path / "same", 1)
    source = open_stream(quick(server.url), tmp_path, budget_of(dataset, 4), 2)
    store, other = store_of(source), store_of(source)
    other.prefetch([18, 19], [])
    wait_for(lambda: other._thread is None)
    store.prefetch([0], [1, 2])  # room for two of the three
    wait_for(lambda: {"s00", "s01"} <= cached(tmp_path / "streamed"))
    time.sleep(0.3)
    assert cached(tmp_path / "streamed") == {"s00", "s01", "s18", "s19"}
    other.close()
    wait_for(lambda: {"s00", "s01", "s02"} <= cached(tmp_path / "streamed"))
    assert server.requests["s01-000000.tar"] == 1
    store.close()


def test_late_reads_from_the_window_before(original, server, tmp_path):
    dataset = make_shards(tmp_path / "same", 1)
    source = open_stream(quick(server.url), tmp_path, budget_of(dataset, 4), 2)
    store = store_of(source, linger=HANG)
    store.prefetch([0, 1], [2, 3])
    wait_for(lambda: store._thread is None)
    store.prefetch([2, 3], [4, 5])
    for _ in range(10):
        assert len(store.read(0, 0, 100)) == 100
        time.sleep(0.05)
    assert server.requests["s00-000000.tar"] == 1
    store._linger = 0.0  # the last such read is long ago
    wait_for(lambda: cached(tmp_path / "streamed") == {"s02", "s03", "s04", "s05"})
    store.prefetch([], [])
    assert store._past
    wait_for(lambda: not store._past and store._thread is None)  # for other processes' sake, without being asked


def test_a_window_without_room_gives_way_to_a_read(original, server, tmp_path, caplog):
    dataset = make_shards(tmp_path / "same", 1)
    source = open_stream(quick(server.url), tmp_path, budget_of(dataset, 4), 2)
    store = store_of(source)
    store.prefetch([0, 1, 2, 3], [])  # more than a window
    wait_for(lambda: store._thread is None)
    assert len(store.read(7, 0, 100)) == 100
    assert len(cached(tmp_path / "streamed")) <= 4
    for _ in range(2):
        for shard in (0, 1, 2, 3, 7):
            assert len(store.read(shard, 0, 100)) == 100
    assert "fetched again within its window" in caplog.text
    assert caplog.text.count("fetched again") == 1


@pytest.mark.parametrize("window", [1, 3, 10, 16])
def test_a_budget_too_small_for_two_windows(original, server, tmp_path, window):
    dataset = open_stream(quick(server.url), tmp_path, 1 << 30, window)._files._dataset
    least = budget_of(dataset, min(2 * window, 20))
    open_stream(quick(server.url), tmp_path, least, window)
    with pytest.raises(ValueError, match=f"two windows of {window} shards .* --data.disk-gb at least") as e:
        open_stream(quick(server.url), tmp_path, least - 1, window)
    if window > 1:
        smaller = int(str(e.value).split("--data.window of ")[1].split(",")[0])
        assert 1 <= smaller < window
        check_budget(dataset, least - 1, smaller, "here")
        if smaller + 1 < min(window, 10):
            with pytest.raises(ValueError, match="two windows"):
                check_budget(dataset, least - 1, smaller + 1, "here")


def test_a_pickled_source_uses_the_same_cache(original, server, tmp_path):
    source = open_source(server.url, cache_dir=tmp_path)
    source.prefetch([0], [1])
    source.read(0)
    state = pickle.dumps(source)
    copy = pickle.loads(state)
    assert copy.read(1) == padded_video(40_000, 1)
    assert server.requests["s00-000000.tar"] == 1
    assert len(state) < 20_000


def test_a_cached_file_that_has_changed_is_fetched_again(original, server, tmp_path, caplog):
    source = open_source(server.url, cache_dir=tmp_path)
    source.prefetch([0], [])
    source.read(0)
    tar, index = (next(tmp_path.rglob(f"s00*{suffix}")) for suffix in (".tar", ".index.jsonl"))
    data = bytearray(tar.read_bytes())
    data[20_000] ^= 1
    tar.write_bytes(data)
    assert source.read(0) == padded_video(40_000, 0)
    assert server.requests["s00-000000.tar"] == 2
    assert "s00-000000.tar has changed in the cache" in caplog.text
    tar = next(tmp_path.rglob("s00*.tar"))
    os.truncate(tar, 1000)
    assert source.read(0) == padded_video(40_000, 0)
    os.truncate(next(tmp_path.rglob("s00*.tar")), 1000)
    source._files.close()
    data = index.read_bytes()
    index.write_bytes(data[:-2] + b"x\n")
    again = open_source(server.url, cache_dir=tmp_path)
    assert again.read(0) == padded_video(40_000, 0)
    assert server.requests["s00-000000.tar"] == 4
    assert server.requests["s00-000000.index.jsonl"] == 2


def test_another_version_of_the_data_set(server, tmp_path):
    folder = tmp_path / "changing"
    dataset = make_shards(folder, 6)
    budget = budget_of(dataset, 6)
    with ShardServer(folder) as changing:
        source = open_stream(quick(changing.url), tmp_path / "cache", budget, 3)
        assert [source.read(i) for i in range(12)] == [padded_video(40_000, i) for i in range(12)]
        before = list((tmp_path / "cache").rglob("*.tar"))
        assert len(before) == 6
        make_shards(folder, 6, seed=100)
        new = open_stream(quick(changing.url), tmp_path / "cache", budget, 3)
        assert [new.read(i) for i in range(12)] == [padded_video(40_000, 100 + i) for i in range(12)]
        assert not any(path.exists() for path in before)
        with pytest.raises(StreamError, match="sha256"):  # what it names is gone
            source.read(0)
        cache = new._files._cache
        assert cache.used() <= budget
        assert len([path for path in cache.folder.iterdir() if path.is_dir()]) <= 2


def test_the_cache_folder_is_nobody_elses(original, server, tmp_path):
    (tmp_path / "streamed").mkdir()
    (tmp_path / "streamed" / "thesis.tar").write_bytes(b"years of work")
    with pytest.raises(ValueError, match=r"streamed .* empty folder"):
        open_source(server.url, cache_dir=tmp_path)
    assert (tmp_path / "streamed" / "thesis.tar").read_bytes() == b"years of work"
