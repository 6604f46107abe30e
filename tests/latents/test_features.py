"""Features of a frozen module, in memory and on the disk."""

import fcntl
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from fastvid.data import Quarantine, ViewDraws, open_source
from fastvid.data.demo.files import encode_h264
from fastvid.data.demo.render import DemoSpec, demo_frames
from fastvid.latents.compute import FrozenEncoder, FrozenModule
from fastvid.latents.features import FeatureSet, FeatureStorage, choose_place, features_bytes, make_features
from fastvid.train.distributed import World
from fastvid.video import ViewSpec
from tests.waiting import HANG

SPEC = ViewSpec(frames=4, size=16)
GB = 10**9


class Means(nn.Module):
    """A token for each frame: the means of its colours. Counts the clips that it has seen."""

    seen = 0

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        self.seen += len(clip)
        return clip.float().mean((2, 3)) / 255


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for i in range(9):
        (folder / f"{i}.mp4").write_bytes(encode_h264(demo_frames(0, i, DemoSpec(size=32, frames=8)), 8))
    (folder / "broken.mp4").write_bytes((folder / "0.mp4").read_bytes()[:300])
    return folder


def made(videos, where, folder, module=None, rank=0, world=1, **options):
    module = module or Means()
    frozen = FrozenModule(module, kind="means", weights="none", layer="last", grid=(4, 1, 1), dim=3)
    wanted = FeatureSet("train", open_source(videos), ViewDraws(SPEC, 7, 2))
    quarantine = Quarantine()
    device = torch.device("cpu")
    store = make_features(
        FrozenEncoder(frozen, device, "float32", 4), wanted, FeatureStorage(where, folder, "fp16"), threads=1,
        quarantine=quarantine, world=World(rank, world, device), **options,
    )  # fmt: skip
    return store, module, quarantine


def content(store):
    return {
        (key, view_hash): store.read([key], [view_hash]).values.tolist()
        for key, hashes in store.clips()
        for view_hash in hashes
    }


def test_memory_and_disk_hold_the_same_and_the_disk_is_read_the_next_time(videos, tmp_path):
    memory, module, bad = made(videos, "memory", tmp_path)
    assert module.seen == 18
    assert list(bad.bad) == ["broken.mp4"]
    assert not any(tmp_path.iterdir())
    disk, module, bad = made(videos, "disk", tmp_path)
    assert module.seen == 18
    assert list(bad.bad) == ["broken.mp4"]
    assert content(disk) == content(memory)
    assert len(content(memory)) == 18
    again, module, bad = made(videos, "disk", tmp_path)
    assert module.seen == 0
    assert list(bad.bad) == ["broken.mp4"]
    assert content(again) == content(memory)


def test_processes_share_the_work_and_wait_for_each_other(videos, tmp_path, monkeypatch):
    met = []

    def barrier(world) -> None:
        met.append(world.rank)
        if met == [0]:  # the other process makes its share now
            made(videos, "disk", tmp_path, rank=1, world=2)

    monkeypatch.setattr("fastvid.latents.features.barrier", barrier)
    store, _, _ = made(videos, "disk", tmp_path, rank=0, world=2)
    assert met == [0, 1]
    assert content(store) == content(made(videos, "memory", tmp_path)[0])


def test_where_features_go(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100 * GB, 80 * GB, 20 * GB))
    asked = [choose_place(n * GB, memory=4 * GB, disk=50 * GB, folder=tmp_path / "not there")[0] for n in (3, 4, 5, 18)]
    assert asked == ["memory", "memory", "disk", "disk"]
    place, why = choose_place(19_500_000_000, memory=4 * GB, disk=50 * GB, folder=tmp_path)
    assert place == "none"
    assert "19.5 GB" in why
    assert "20 GB of disk" in why
    assert choose_place(9 * GB, memory=4 * GB, disk=8 * GB, folder=tmp_path)[0] == "none"


def test_a_check_stops_the_work_and_what_was_finished_stays(videos, tmp_path):
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    for where in ("memory", "disk"):
        with pytest.raises(Stop):
            made(videos, where, tmp_path, check=stop)
    assert content(made(videos, "disk", tmp_path)[0]) == content(made(videos, "memory", tmp_path)[0])


def test_a_second_process_waits_for_a_shard_and_does_not_replace_it(videos, tmp_path):
    first, _, _ = made(videos, "disk", tmp_path / "features")
    (folder,) = (tmp_path / "features").iterdir()
    (shard,) = folder.glob("*.safetensors")
    away = shard.rename(tmp_path / "away")
    with (folder / f".{shard.stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run is making it
        modules = []
        thread = threading.Thread(target=lambda: modules.append(made(videos, "disk", tmp_path / "features")[1]))
        thread.start()
        time.sleep(0.3)
        assert not shard.exists()
        away.rename(shard)
    thread.join(HANG)
    assert modules[0].seen == 0
    assert content(first) == content(made(videos, "disk", tmp_path / "features")[0])


def test_what_the_views_of_a_sample_depend_on_is_in_the_name(videos):
    class Mirrored(ViewDraws):
        victim = None

        def cache_key(self, sample):
            return "mirrored" if sample.key == self.victim else ""

    def fingerprint(victim):
        Mirrored.victim = victim
        wanted = FeatureSet("train", open_source(videos), Mirrored(SPEC, 7, 2))
        frozen = FrozenModule(Means(), kind="means", weights="none", layer="last", grid=(4, 1, 1), dim=3)
        return wanted.manifest(frozen, precision="float32", form="fp16").fingerprint

    assert len({fingerprint(victim) for victim in (None, "0.mp4", "1.mp4")}) == 3


def test_bytes_are_those_of_the_files(videos, tmp_path):
    store, _, _ = made(videos, "memory", tmp_path)
    assert features_bytes(store.manifest) == 10 * 2 * 4 * 3 * 2
