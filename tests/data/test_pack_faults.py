import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from fastvid.data.pack.folder import folder
from fastvid.data.pack.interrupt import Interrupt
from fastvid.data.pack.llava import llava
from fastvid.data.pack.prepare import Reject
from fastvid.data.worker_pool import in_order
from tests.data.packing import pack_folder
from tests.data.packs import content, dataset_of, make, make_llava, rejects_of
from tests.video.clips import encode
from tests.waiting import HANG, wait_for

PACKING = Path(__file__).with_name("packing.py")


def command(src, out, shard_bytes=20_000, transcode=False):
    return [sys.executable, str(PACKING), str(src), str(out), "1", str(shard_bytes), *(["yes"] if transcode else [])]


def kill_when(process, condition):
    end = time.monotonic() + HANG
    while process.poll() is None and not condition() and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def children_of(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A source of many videos, some bad, and what it is packed to without interruption."""
    root = tmp_path_factory.mktemp("source")
    make(root / "src", 60)
    for i in range(3):
        (root / f"src/bad{i}.mp4").write_bytes(b"bad" * i)
    pack_folder(root / "src", root / "whole")
    return root


@pytest.mark.parametrize("shards", [0, 1, 4])
def test_killed_and_begun_again_the_bytes_are_the_same(source, tmp_path, shards):
    out = tmp_path / "out"
    process = subprocess.Popen(command(source / "src", out))
    workers: set[int] = set()

    def far_enough():
        workers.update(children_of(process.pid))
        return (out / ".pack/plan.json").exists() and len(list(out.glob("*.tar"))) >= shards

    kill_when(process, far_enough)
    assert not (out / "dataset.json").exists()
    for tar in out.glob("*.tar"):  # what has its name is complete
        assert content(source / "whole")[tar.name] == content(out)[tar.name]
    wait_for(lambda: not any(map(alive, workers)))  # no process is left behind
    pack_folder(source / "src", out)
    assert content(out) == content(source / "whole")
    assert not list((out / ".pack").glob("*.part"))


STEPS = ["record", "index", "tar", "rejects", "dataset"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_between_any_two_steps(source, tmp_path, step, monkeypatch):
    """Stops right after each kind of rename in turn, at its second occurrence; then goes on."""
    ending = {
        "record": "1.json",
        "index": "1.index.jsonl",
        "tar": "1.tar",
        "rejects": "rejects.jsonl",
        "dataset": "dataset.json",
    }
    whole, replace = content(source / "whole"), os.replace

    class Killed(BaseException):
        pass

    def stop(src, dst):
        mine = str(dst).endswith(ending[step]) and (step not in ("rejects", "dataset") or Path(dst).parent == out)
        if after or not mine:
            replace(src, dst)
        if mine:
            raise Killed

    for after in (False, True):
        out = tmp_path / str(after)
        # Nothing is cleaned up, as after a kill.
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(os, "replace", stop)
            patch.setattr("fastvid.data.shards.tar_writer.TarShard.abandon", lambda self: None)
            pack_folder(source / "src", out)
            pytest.fail("nothing was stopped")
        assert all(whole[name] == digest for name, digest in content(out).items())
        assert (out / "dataset.json").exists() == (step == "dataset" and after)
        pack_folder(source / "src", out)
        assert content(out) == whole


def test_archives_go_on_where_they_were(tmp_path, monkeypatch):
    make_llava(tmp_path / "src", cut=True)
    run = partial(pack_folder, None, shard_bytes=8_000, collection=llava(tmp_path / "src")[""])
    run(out=tmp_path / "whole")
    shards = len(dataset_of(tmp_path / "whole").shards)
    assert shards > 3

    class Killed(BaseException):
        pass

    for number in (0, 1, shards // 2, shards - 1):
        out = tmp_path / f"out{number}"
        replace = os.replace

        def stop(src, dst, name=f"{number:06d}.tar", replace=replace):
            replace(src, dst)
            if str(dst).endswith(name):
                raise Killed

        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(os, "replace", stop)
            run(out=out)
            pytest.fail("nothing was stopped")
        run(out=out)
        assert content(out) == content(tmp_path / "whole")


def test_transcoding_goes_on_where_it_was(source, tmp_path):
    pack_folder(source / "src", tmp_path / "whole", transcode=True)
    out = tmp_path / "out"
    process = subprocess.Popen(command(source / "src", out, transcode=True))
    kill_when(process, lambda: len(list(out.glob("*.tar"))) >= 2)
    pack_folder(source / "src", out, transcode=True)
    assert content(out) == content(tmp_path / "whole")


def test_an_interrupt_from_the_keyboard_is_no_traceback(source, tmp_path):
    src, out = tmp_path / "src", tmp_path / "out"
    src.mkdir()
    for i in range(400):
        os.link(source / f"src/class{i % 60 % 3}/{i % 60:03d}.mp4", src / f"{i}.mp4")
    process = subprocess.Popen(
        [*pack_command(src, out), "--transcode"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list(out.glob(".pack/*.tar.part")) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(HANG) == 130
    assert process.stderr.read() == "stopped: finished shards are kept, the same command goes on from there\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_is_not_lost():
    class Thing:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        interrupt.check()
        thing = Thing()
        del thing  # the KeyboardInterrupt ends with it
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
    assert signal.getsignal(signal.SIGINT) is before


def full(megabytes):
    """Files of this process cannot grow past the limit: what a full disk does, where none can be mounted."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (int(megabytes * 1e6), int(megabytes * 1e6)))


def pack_command(src, out):
    return [sys.executable, "-m", "fastvid.data", "pack", str(src), "--out", str(out), "--jobs", "1"]


@contextlib.contextmanager
def small_disk(tmp_path, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_said_and_packing_goes_on_when_there_is_room(source, tmp_path):
    with small_disk(tmp_path, "80k") as disk:
        if disk is None:
            pytest.skip("no tmpfs can be mounted here; the next test limits the size of files instead")
        with pytest.raises(OSError, match="No space left on device"):
            pack_folder(source / "src", disk / "out")
        whole = content(source / "whole")
        assert 0 < len(content(disk / "out")) < len(whole)
        assert all(whole[name] == digest for name, digest in content(disk / "out").items())
        shutil.copytree(disk / "out", tmp_path / "out")
    pack_folder(source / "src", tmp_path / "out")
    assert content(tmp_path / "out") == whole


def test_files_that_cannot_grow_are_said_in_a_sentence(source, tmp_path):
    out = tmp_path / "out"
    arguments = pack_command(source / "src", out)
    failed = subprocess.run(arguments, preexec_fn=full(0.05), capture_output=True, text=True)
    assert failed.returncode == 1
    assert "cannot grow" in failed.stderr
    assert "Finished shards are kept: make room and run the same command again" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert content(out) == {}
    assert not list((out / ".pack").glob("*.part"))
    assert subprocess.run(arguments, capture_output=True).returncode == 0
    assert dataset_of(out).samples == 60


def test_a_place_that_cannot_be_written_is_said_in_a_sentence(source, tmp_path):
    (tmp_path / "file").write_text("in the way")
    failed = subprocess.run(pack_command(source / "src", tmp_path / "file/out"), capture_output=True, text=True)
    assert failed.returncode == 1
    assert "cannot be written: Not a directory" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_read_only_folder(source, tmp_path):
    if os.geteuid() == 0:
        disk = tmp_path / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk)], capture_output=True).returncode:
            pytest.skip("the superuser writes to read-only folders, and no file system can be mounted here")
    else:
        disk = tmp_path
        disk.chmod(0o555)
    try:
        failed = subprocess.run(pack_command(source / "src", disk / "out"), capture_output=True, text=True)
        assert failed.returncode == 1
        assert "cannot be written" in failed.stderr
        assert "Traceback" not in failed.stderr
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", str(disk)], check=True)
        else:
            disk.chmod(0o755)


def test_two_packs_of_one_folder(source, tmp_path):
    import fcntl

    out = tmp_path / "out"
    (out / ".pack").mkdir(parents=True)
    with (out / ".pack/lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process is packing into"):
            pack_folder(source / "src", out)
    pack_folder(source / "src", out)
    assert content(out) == content(source / "whole")


def test_a_finished_shard_that_vanished_is_noticed(source, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(command(source / "src", out))
    kill_when(process, lambda: len(list(out.glob("*.tar"))) >= 2)
    (out / "shard-000000.tar").unlink()
    with pytest.raises(ValueError, match=r"shard-000000\.tar was finished, and is missing now"):
        pack_folder(source / "src", out)


def dies_at_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return number * 10


def test_a_process_that_dies_costs_its_own_video_alone():
    results = list(in_order(dies_at_three, range(8), 2, lambda number: Reject("crash", str(number))))
    assert results == [(n, Reject("crash", "3") if n == 3 else n * 10) for n in range(8)]


def test_rejects_are_neither_lost_nor_doubled(source):
    assert sorted(line["path"] for line in rejects_of(source / "whole")) == ["bad0.mp4", "bad1.mp4", "bad2.mp4"]
    assert dataset_of(source / "whole").samples == 60
    assert len(folder(source / "src")[""].items) == 63


def test_memory_does_not_grow_with_the_collection(tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    video = encode(120, "rawvideo", "avi", height=512)  # 12 MB
    assert len(video) > 10_000_000
    for i in range(12):
        os.link(_written(tmp_path / "v.avi", video), src / f"{i}.avi")
    arguments = ["pack", str(src), "--out", str(tmp_path / "out"), "--jobs", "1", "--shard-mb", "256", "--no-verify"]
    done = subprocess.run([sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 250_000  # kB, for 142 MB of videos in one shard


PEAK = """
import sys
from fastvid.data.__main__ import main
code = main(sys.argv[1:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


def _written(path, data):
    if not path.exists():
        path.write_bytes(data)
    return path
