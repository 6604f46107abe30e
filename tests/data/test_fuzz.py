"""Two thousand random changes to what is read from disk: indexes, tar headers, dataset.json."""

import json
import random
import resource
import subprocess
import sys
import tarfile
import tracemalloc
import zlib
from pathlib import Path

from fastvid.data.shards.dataset_json import Dataset, ShardInfo, _checksum
from fastvid.data.shards.entry import Entry
from fastvid.data.shards.index import ShardIndex, build_index, index_bytes
from fastvid.video import DecodeError, Limits, probe
from tests.data.test_tar_members import resum, tar_bytes
from tests.video.clips import encode

ROUNDS = 2000
MEMORY = 32 << 20  # that Python may allocate for one input of a few kB
SHORT = Limits(frames=100_000)
NUMBERS = (b"0", b"-1", b"9" * 18, b"9" * 30, b"1e999", b"NaN", b"null", b"[]", b"{}", b'"x"', b"true", b"2147483648")


def mutated(rng, data):
    """The data with one to four random changes."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + rng.randint(1, 40)]
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 40)]
        elif kind == 4:
            digits = [i for i, c in enumerate(data) if 48 <= c < 58] or [at]
            at = rng.choice(digits)
            data[at : at + rng.randint(1, 12)] = rng.choice(NUMBERS)
        else:
            data[at:at] = rng.choice([b"[" * 5000, b'{"a":' * 3000, b"\0" * 700, b"\xff" * 9, b"\\ud800"])
        data = data or bytearray(b" ")
    return bytes(data)


def fuzz_index(rng):
    videos = [encode(8), encode(6, times=[0, 10, 30, 60, 200, 210]), encode(5, "mpeg4", "avi")]
    lines = [Entry(f"k{i}", 512 * i, 99, 7, probe(v), "l", "c") for i, v in enumerate(videos)]
    good = index_bytes("x.tar", 10**6, lines)
    header, _, body = good.partition(b"\n")

    def read(data):
        index = ShardIndex(data, "x.index.jsonl")
        for i in range(len(index)):
            entry = index[i]
            assert entry.offset + entry.size <= index.header.bytes

    for turn in range(ROUNDS // 2):
        if turn % 4 == 0:
            yield read, mutated(rng, good)
            continue
        # With the checksum made right, so that the lines themselves are read.
        changed = mutated(rng, body)
        fields = json.loads(header)
        fields |= {"crc32": zlib.crc32(changed), "samples": changed.count(b"\n")}
        yield read, json.dumps(fields).encode() + b"\n" + changed
    for _ in range(ROUNDS // 2):
        yield (lambda line: Entry.from_line(line, SHORT)), mutated(rng, rng.choice(lines).to_line())


def fuzz_tar(rng, path):
    video = b"no video, which takes no time" * 40
    pax, linked = tarfile.TarInfo("p.mp4"), tarfile.TarInfo("l.mp4")
    pax.pax_headers = {"path": "é/p.mp4", "mtime": "1.5"}
    linked.type, linked.linkname = tarfile.SYMTYPE, "x"
    goods = [
        tar_bytes(
            ("a.mp4", video), ("a.json", b'{"label": 3}'), (pax, video), (linked, b""), ("n" * 150 + ".mp4", video)
        ),
        tar_bytes(("a.mp4", video), ("n" * 150 + ".mp4", video), format=tarfile.GNU_FORMAT),
    ]

    def read(data):
        path.write_bytes(data)
        for entry in build_index(path, lambda sentence: None):
            assert entry.offset + entry.size <= len(data)
            assert ".." not in entry.key.split("/")

    for turn in range(ROUNDS):
        good = goods[turn % 2]
        heads = [at for at in range(0, len(good) - 512, 512) if good[at + 257 : at + 262] == b"ustar"]
        at = rng.choice(heads)
        block = mutated(rng, good[at : at + 512])[:512].ljust(512, b"\0")
        data = good[:at] + block + good[at + 512 :]
        if turn % 8:
            data = resum(data, at)
        if turn % 16 == 1:
            data = data[: rng.randrange(len(data))]
        if turn % 16 == 2:  # the content of long names and extended headers too
            data = data[: at + 512] + mutated(rng, data[at + 512 : at + 1024]) + data[at + 1024 :]
        yield read, data


def fuzz_dataset(rng):
    shard = ShardInfo("a-000000.tar", 3, 1000, "0" * 64, 10, "1" * 64)
    good = Dataset((shard, shard), {"x": 3}, 1, {"h264": 3}, 9, 1.5, 7, {"command": "pack"}).to_bytes()

    def read(data):
        dataset = Dataset.from_bytes(data, "dataset.json")
        assert dataset.samples >= 0
        assert len(dataset.hash) == 64
        assert all("/" not in s.name for s in dataset.shards)
        assert sum(dataset.labels.values()) + sum(dataset.codecs.values()) + dataset.frames + dataset.captions >= 0
        assert sorted(dataset.labels) == sorted(dataset.labels, key=str)
        assert dataset.made_by.get("command", "") is not dataset.seconds

    for turn in range(ROUNDS):
        data = mutated(rng, good)
        if turn % 2:  # with a checksum that is right
            try:
                values = json.loads(data)
                values.pop("checksum", None)
                data = json.dumps({**values, "checksum": _checksum(values)}).encode()
            except (ValueError, AttributeError, RecursionError, TypeError):
                pass
        yield read, data


def run(cases):
    """Reads every case; returns how many were refused. Anything but a refusal ends the process."""
    tracemalloc.start()
    refused = 0
    for read, data in cases:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            read(data)
        except (ValueError, DecodeError):
            refused += 1
        peak = tracemalloc.get_traced_memory()[1] - before
        assert peak < MEMORY, f"{peak} bytes for {data[:300]!r}"
    return refused


def main(which, folder):
    # What C allocates is bounded too.
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    rng = random.Random(7)
    cases = {"index": fuzz_index, "dataset": fuzz_dataset, "tar": lambda rng: fuzz_tar(rng, Path(folder) / "x.tar")}
    print(run(cases[which](rng)))


def fuzzed(which, folder):
    done = subprocess.run(
        [sys.executable, __file__, which, str(folder)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout.split()[-1])


def test_indexes(tmp_path):
    assert 1000 < fuzzed("index", tmp_path) < ROUNDS  # most are refused, and some changes do no harm


def test_tar_headers(tmp_path):
    assert 500 < fuzzed("tar", tmp_path) < ROUNDS


def test_dataset_json(tmp_path):
    assert 1000 < fuzzed("dataset", tmp_path) < ROUNDS


if __name__ == "__main__":
    main(*sys.argv[1:])
