"""Caches of latents made by several processes, and by processes that are killed or run out of disk."""

import signal
import subprocess
import sys

import pytest

from fastvid.latents import LatentCache
from tests.waiting import HANG

KILLED = """
import os, signal, sys
from fastvid.latents import file as latent_file
add, count = latent_file.LatentFileWriter.add, [0]
def adds(self, *row):
    count[0] += 1
    if count[0] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, *row)
latent_file.LatentFileWriter.add = adds
from fastvid.cache.__main__ import main
main(sys.argv[1:])
"""


def test_killed_in_the_middle_of_a_shard_it_goes_on_where_it_was(cache, shards, teacher, tmp_path):
    _, whole, _ = cache(out=tmp_path / "whole")
    folder = tmp_path / "killed"
    options = ["--teacher", teacher, "--data.path", str(shards), "--out", str(folder), "--batch", "3"]
    done = subprocess.run([sys.executable, "-c", KILLED, *options], capture_output=True, check=False, timeout=HANG)
    assert done.returncode == -signal.SIGKILL
    assert sorted(p.name for p in folder.glob("*.safetensors")) == ["s0-000000.safetensors"]
    assert len(list(folder.glob(".s1-000000.safetensors.*.part"))) == 1
    with pytest.raises(ValueError, match=r"1 of 3 shards"):
        LatentCache(folder)
    stamp = (folder / "s0-000000.safetensors").stat().st_mtime_ns
    code, _, said = cache(out=folder)
    assert code == 0
    assert "8 clips in" in said
    assert (folder / "s0-000000.safetensors").stat().st_mtime_ns == stamp
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}


def test_two_processes_make_one_cache(cache, shards, teacher, tmp_path):
    _, whole, _ = cache(out=tmp_path / "whole")
    folder = tmp_path / "two"
    options = ["--teacher", teacher, "--data.path", str(shards), "--out", str(folder), "--batch", "3"]
    command = [sys.executable, "-m", "fastvid.cache", *options]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=HANG)
        assert process.returncode == 0, err
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}


@pytest.mark.parametrize(
    "variables",
    [
        ("RANK", "WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ],
)
def test_processes_share_the_shards(cache, monkeypatch, variables):
    for rank, expected in ((1, {"s1-000000"}), (0, {"s0-000000", "s1-000000", "s2-000000"})):
        monkeypatch.setenv(variables[0], str(rank))
        monkeypatch.setenv(variables[1], "2")
        code, folder, said = cache()
        assert code == 0
        assert {path.stem for path in folder.glob("*.safetensors")} == expected
        assert ("complete:" in said) == (rank == 0)


def test_a_full_disk_keeps_what_is_finished(cache, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        code, folder, said = cache("--yes", out=disk / "latents")
        assert code == 2
        assert "the disk is full" in said
        assert "finished shards are kept" in said
        assert not list(folder.glob(".*.part"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_with_ray(cache, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    _, whole, _ = cache(out=tmp_path / "whole")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code, folder, said = cache("--ray", "--ray-workers", "2", out=tmp_path / "ray")
    assert code == 0, said
    assert "12 clips in" in said
    assert not ray.is_initialized()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}
