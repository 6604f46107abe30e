"""The decoding process when things go wrong: what cannot be sent, made, found or waited for."""

import dataclasses
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from fastvid.data import DecodeOptions, LoaderState, open_source
from fastvid.data.loader.worker_handle import DecodeWorker
from fastvid.video import ViewSpec
from tests.data.loading import train_loader
from tests.data.odd_sources import Slow, Stuck, Unmakeable, Unsendable
from tests.video.clips import encode
from tests.waiting import HANG

SPEC = ViewSpec(frames=4, size=16)
VIDEO = encode(12)


def take(loader, count):
    return [next(loader) for _ in range(count)]


@pytest.mark.parametrize(
    ("how", "words"),
    [("lock", "RuntimeError: holds a lock"), ("arguments", "Spoken: this and that"), ("exit", "enough")],
)
def test_errors_that_cannot_be_sent_arrive_all_the_same(folder, how, words):
    with train_loader(Unsendable(folder, how), SPEC, batch=4, seed=0) as loader:
        with pytest.raises((RuntimeError, SystemExit), match=words) as caught:
            next(loader)
        assert "in read" in str(caught.value.__cause__)


def test_a_source_that_cannot_be_made_over_there_is_said(folder):
    with (
        train_loader(Unmakeable(folder), SPEC, batch=4, seed=0) as loader,
        pytest.raises(FileNotFoundError, match="the other half"),
    ):
        next(loader)


def test_a_source_that_cannot_be_sent_leaves_nothing_behind(folder):
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        with pytest.raises(TypeError, match="cannot pickle"):
            train_loader(Stuck(folder), SPEC, batch=4, seed=0)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_a_source_of_the_script_itself_is_refused_with_the_way_out(folder):
    script = (
        "from fastvid.data import EpochSampler, TrainLoader, ViewDraws\n"
        "from fastvid.data.sources.folder import FolderSource\n"
        "from fastvid.video import ViewSpec\n"
        "class Mine(FolderSource): pass\n"
        f"source = Mine({str(folder)!r})\n"
        "sampler = EpochSampler(source.shard_sizes, batch=4, seed=0)\n"
        "next(TrainLoader(source, ViewDraws(ViewSpec(frames=4, size=16), 0), sampler))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 1
    assert "Mine" in done.stderr
    assert "its class must be in a module that can be imported" in done.stderr


def test_it_finds_the_modules_and_files_that_its_parent_finds(folder, tmp_path_factory, monkeypatch):
    with train_loader(open_source(folder), SPEC, batch=4, seed=0) as loader:
        expected = [batch.keys for batch in take(loader, 6)]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "numpy.py").write_text("raise RuntimeError('the wrong numpy')")
    (elsewhere / "clips").symlink_to(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(elsewhere)
    with train_loader(Slow("clips"), SPEC, batch=4, seed=0) as loader:
        made = [batch.keys for batch in take(loader, 2)]
        monkeypatch.chdir("/")
        os.kill(loader._prefetcher.process.pid, signal.SIGKILL)
        made += [batch.keys for batch in take(loader, 4)]
    assert made == expected


def test_a_loader_that_is_dropped_ends_its_process(folder):
    before = threading.active_count()
    loader = train_loader(open_source(folder), SPEC, batch=4, seed=0)
    next(loader)
    process = loader._prefetcher.process._process
    del loader
    gc.collect()
    assert process.poll() is not None
    assert threading.active_count() == before


def test_a_forked_process_is_told_to_make_its_own(folder):
    with train_loader(open_source(folder), SPEC, batch=4, seed=0) as loader:
        next(loader)
        child = os.fork()
        if not child:
            try:
                next(loader)
            except RuntimeError as error:
                loader.close()
                os._exit(7 if "forked" in str(error) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert len(take(loader, 3)) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 2, "world": 2}, "rank 2 of 2 processes"), ({"rank": -1, "world": 2}, "rank -1 of 2"),
        ({"world": 0}, "rank 0 of 0 processes"), ({"threads": 0}, "threads must be at least 1"),
        ({"window": 0}, "window must be at least 1"), ({"views": 0}, "count must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"), ({"start": LoaderState(0, -3)}, r"start\.sample must be at least 0"),
        ({"device": "cuda"}, "device cuda: torch sees no GPU"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_before_anything_starts(folder, options, words):
    if options.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    before = threading.active_count()
    with pytest.raises(ValueError, match=words):
        train_loader(open_source(folder), SPEC, **{"batch": 4, "seed": 0, **options})
    assert threading.active_count() == before


def test_half_of_a_tiny_set_may_be_bad(tmp_path):
    (tmp_path / "good.mp4").write_bytes(VIDEO)
    (tmp_path / "bad.mp4").write_bytes(b"rubbish")
    for seed in range(4):
        with train_loader(open_source(tmp_path), SPEC, batch=2, seed=seed) as loader:
            assert {key for batch in take(loader, 4) for key in batch.keys} == {"good.mp4"}


@pytest.fixture
def large_files(folder):
    """The plan of a decoder of the GPU: files are sent, larger than the connection holds."""
    for path in folder.glob("*.mp4"):
        path.write_bytes(VIDEO + bytes(2_000_000))
    with train_loader(open_source(folder), SPEC, batch=4, seed=0) as loader:
        keys = [key for batch in take(loader, 4) for key in batch.keys]
        return dataclasses.replace(loader.plan, options=DecodeOptions("dali")), keys


def test_messages_each_way_never_wait_for_each_other(large_files):
    """A child that cannot send still listens: else it and its parent would wait for each other for ever."""
    plan, keys = large_files
    process = DecodeWorker(plan, 8)
    time.sleep(1.0)  # it stands in the middle of sending now
    for _ in range(20_000):
        process.handed_out(waited=True)
    assert process.decoded(0).file.sample.key == keys[0]
    process.close()


def test_a_child_killed_in_the_middle_of_a_message_is_started_again(large_files):
    plan, keys = large_files
    process, made = DecodeWorker(plan, 8), []
    for turn in range(16):
        if turn % 5 == 0:
            time.sleep(0.5)
            os.kill(process.pid, signal.SIGKILL)
        made.append(process.decoded(turn).file.sample.key)
        process.forget(turn)
    process.close()
    assert made == keys
