import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fastvid.data import open_source
from fastvid.data.loader.autotune import Autotune
from fastvid.data.loader.ring import Ring
from fastvid.video import ViewSpec
from tests.data.loading import train_loader
from tests.data.odd_sources import Curious, Deadly, Slow, Wrong
from tests.video.clips import encode
from tests.waiting import HANG, wait_for

SPEC = ViewSpec(frames=4, size=16)
VIDEO = encode(12)


def take(loader, count):
    return [next(loader) for _ in range(count)]


def same(one, two):
    return all(
        a.keys == b.keys and torch.equal(a.clips, b.clips) and torch.equal(a.view_hashes, b.view_hashes)
        for a, b in zip(one, two, strict=True)
    )


def alive(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("killed_after", [[0], [1, 2], [0, 1, 5]])
def test_a_killed_process_is_started_again_with_the_order_unchanged(folder, killed_after, caplog):
    with train_loader(open_source(folder), SPEC, batch=4, seed=0) as loader:
        whole = take(loader, 8)
    with train_loader(Slow(folder), SPEC, batch=4, seed=0, threads=3) as loader:
        made = []
        for step in range(8):
            if step in killed_after:
                os.kill(loader._prefetcher.process.pid, signal.SIGKILL)
            made.append(next(loader))
    assert same(made, whole)
    assert caplog.text.count("was killed by signal 9") == len(killed_after)


def test_one_death_on_a_video_is_survived_and_many_name_it(folder, tmp_path_factory):
    budget = tmp_path_factory.mktemp("budget")
    with train_loader(open_source(folder), SPEC, batch=4, seed=0) as loader:
        whole = take(loader, 6)
    (budget / "1").touch()
    with train_loader(Deadly(folder, budget), SPEC, batch=4, seed=0) as loader:
        assert same(take(loader, 6), whole)
    assert not list(budget.iterdir())
    for i in range(100):
        (budget / str(i)).touch()
    with (
        train_loader(Deadly(folder, budget), SPEC, batch=4, seed=0, threads=1) as loader,
        pytest.raises(RuntimeError, match=r"ended with exit code 11, 3 times without .* at one of 03\.mp4"),
    ):
        take(loader, 6)


def test_an_error_that_is_no_bad_sample_reaches_the_loop_with_its_traceback(folder):
    with train_loader(Wrong(folder), SPEC, batch=4, seed=0) as loader:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError) as caught:
                next(loader)
    assert "return 1 / 0" in str(caught.value.__cause__)


def test_what_is_waited_for_is_said(folder, caplog, monkeypatch):
    monkeypatch.setattr("fastvid.data.loader.worker_handle._PATIENCE", 0.02)
    with train_loader(Slow(folder), SPEC, batch=4, seed=0, threads=1) as loader:
        (batch,) = take(loader, 1)
    assert "no clip for 0 s; being read or decoded: " + batch.keys[0] in caplog.text


def test_it_imports_no_torch_and_is_light(folder, tmp_path_factory):
    note = tmp_path_factory.mktemp("note") / "modules"
    with train_loader(Curious(folder, note), SPEC, batch=4, seed=0) as loader:
        take(loader, 2)
        wait_for(note.exists)
        own = loader.worker_bytes()
    modules = note.read_text().split("\n")
    assert "fastvid.data.loader.worker" in modules or "__main__" in modules
    assert not {"torch", "transformers", "timm", "matplotlib"} & set(modules)
    assert 10e6 < own < 80e6


def test_it_ends_with_its_parent_and_not_at_an_interrupt(folder):
    script = (
        "import sys, time\n"
        "from fastvid.data import EpochSampler, TrainLoader, ViewDraws, open_source\n"
        "from fastvid.video import ViewSpec\n"
        f"source = open_source({str(folder)!r})\n"
        "sampler = EpochSampler(source.shard_sizes, batch=4, seed=0)\n"
        "loader = TrainLoader(source, ViewDraws(ViewSpec(frames=4, size=16), 0), sampler)\n"
        "next(loader)\n"
        "print(loader._prefetcher.process.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    os.kill(child, signal.SIGINT)
    time.sleep(0.2)
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not alive(child))


def test_closing_ends_process_and_threads_at_any_time(folder):
    before = threading.active_count()
    for batches in (0, 1, 3):
        loader = train_loader(Slow(folder), SPEC, batch=8, seed=0)
        take(loader, batches)
        child = loader._prefetcher.process.pid
        loader.close()
        loader.close()
        assert not alive(child)
        with pytest.raises(ValueError, match="the loader is closed"):
            next(loader)
    assert threading.active_count() == before


def _keys(folder, results):
    with train_loader(open_source(folder), SPEC, batch=4, seed=0) as loader:
        results.put([batch.keys for batch in take(loader, 3)])


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_it_works_inside_other_processes(folder, method):
    context = multiprocessing.get_context(method)
    results = context.Queue()
    process = context.Process(target=_keys, args=(folder, results), daemon=True)  # which may have no children itself
    process.start()
    with train_loader(open_source(folder), SPEC, batch=4, seed=0) as loader:
        expected = [batch.keys for batch in take(loader, 3)]
    assert results.get(timeout=HANG) == expected
    process.join()


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs /dev/shm to look at")
def test_a_large_batch_needs_no_shared_memory_mount_and_keeps_its_bound(folder):
    """64 clips of 16 x 224 x 224 are 154 MB: through /dev/shm of 64 MB, as containers have it, they would not pass."""
    mounted = os.statvfs("/dev/shm")
    before = _resident()
    with train_loader(open_source(folder), ViewSpec(frames=16, size=224), batch=64, seed=0, prefetch=2) as loader:
        bound = loader.ram_bound()
        assert bound == (64 + 3 * 64) * 16 * 224 * 224 * 3
        for _ in range(4):
            batch = next(loader)
            assert batch.clips.shape == (64, 16, 224, 224, 3)
            assert (mounted.f_bfree - os.statvfs("/dev/shm").f_bfree) * mounted.f_frsize < 64e6
            # The ring is counted in both processes.
            ring = loader._prefetcher.process.ring.slots * loader.clip_bytes
            assert _resident() - before + _resident(loader._prefetcher.process.pid) - ring < bound + 150e6
        time.sleep(0.5)
        assert loader._prefetcher.process._process.poll() is None
    assert _resident() - before < 100e6 + bound / 4  # the last batch is still ours


def _resident(pid="self"):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_full_ring_waits(folder):
    with train_loader(open_source(folder), SPEC, batch=4, seed=0, prefetch=3, threads=2) as loader:
        assert loader._prefetcher.process.ring.slots == 8
        time.sleep(1.0)
        # One batch copied and waiting, one being held back, and the ring: nothing is decoded beyond that.
        assert loader._prefetcher.process._taken + len(loader._prefetcher.process._decoded) <= 4 + 8
        assert len(take(loader, 6)) == 6


def test_the_ring_is_shared_by_its_descriptor():
    ring = Ring(3, (2, 5))
    other = Ring(3, (2, 5), os.dup(ring.descriptor))
    ring.slot(4)[:] = np.arange(10).reshape(2, 5)
    assert np.array_equal(other.slot(1), np.arange(10).reshape(2, 5))
    other.close()
    ring.close()


def test_a_ring_that_does_not_fit_is_said_before_anything_is_written():
    with pytest.raises(MemoryError, match=r"need 1,126 TB and [\d.]+ \w?B .*batch size"):
        Ring(1 << 20, (1 << 30,))


def test_threads_follow_the_need():
    throttle = Autotune(2, 4)
    assert [throttle.batch(waited=True, idle=False) for _ in range(6)] == [False, True, False, True, False, False]
    assert throttle.threads == 4
    for _ in range(200):
        throttle.batch(waited=False, idle=True)
    assert throttle.threads == 1
    fixed = Autotune(3, 3)
    for waited in [True] * 50 + [False] * 50:
        assert not fixed.batch(waited=waited, idle=not waited)


def test_more_threads_are_started_when_the_training_waits(folder):
    with train_loader(Slow(folder), SPEC, batch=4, seed=0, threads=None) as loader:
        first = loader.threads
        wait_for(lambda: (next(loader), loader.threads)[1] == loader.plan.most_threads)
        assert first < loader.threads or loader.plan.most_threads == loader.plan.threads
