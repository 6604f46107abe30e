"""Costs of a sample as the data set grows: start-up, memory, and one position of an epoch.

    python -m benchmarks.loading.data_scale [SAMPLES ...]

The data set is simulated: ``dataset.json`` lists shards of 1,000 samples, and every index holds the same 1,000 lines,
so that what is measured is the bookkeeping alone. Each size runs in a process of its own.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PER_SHARD = 1000
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)
_WINDOW = 16


def measure(samples: int) -> dict[str, float]:
    """Run one size in a new process.

    Returns:
        ``start_s`` (dataset.json to the first sample of the first epoch), ``memory_mb`` (growth of the resident set by
        then), ``order_us`` (processor time for
        the index of the sample at a position, in order), ``sample_us`` (the same with its line of the
        index), ``peak_mb`` (growth by the end).
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset.json"
        _write_dataset(path, -(-samples // PER_SHARD))
        command = [sys.executable, "-m", "benchmarks.loading.data_scale", "--one", str(path)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _index() -> bytes:
    from fastvid.data.shards.entry import Entry
    from fastvid.data.shards.index import index_bytes

    entries = [Entry(f"{i:06d}", 512 + i * 100_000, 90_000, i, None, str(i % 174)) for i in range(PER_SHARD)]
    return index_bytes("same.tar", 512 + PER_SHARD * 100_000, entries)


def _write_dataset(path: Path, shards: int) -> None:
    from fastvid.data.shards.dataset_json import Dataset, ShardInfo

    index = _index()
    digest = hashlib.sha256(index).hexdigest()
    facts = (
        ShardInfo(f"train-{i:06d}.tar", PER_SHARD, 512 + PER_SHARD * 100_000, f"{i:064x}", len(index), digest)
        for i in range(shards)
    )
    path.write_bytes(Dataset(tuple(facts), labels={str(i): shards for i in range(174)}).to_bytes())


def _run(path: Path) -> dict[str, float]:
    from fastvid.data.loader.order import EpochOrder
    from fastvid.data.shards.dataset_json import Dataset
    from fastvid.data.shards.index import ShardIndex
    from fastvid.data.shards.reader import ShardSource, check_index

    index = _index()

    class Files:
        def __init__(self, dataset: Dataset):
            self.facts, self.names = dataset.shards, [fact.name for fact in dataset.shards]

        def index(self, shard: int) -> ShardIndex:
            return check_index(index, self.names[shard], self.facts[shard])

        def read(self, shard: int, offset: int, size: int) -> bytes:
            raise NotImplementedError

        def stamps(self) -> list[str]:
            return [fact.stamp for fact in self.facts]

        def renew(self, shard: int) -> None:
            raise NotImplementedError

        def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
            raise NotImplementedError

    before, start = _resident("VmRSS"), time.perf_counter()
    dataset = Dataset.from_bytes(path.read_bytes(), str(path))
    source = ShardSource(Files(dataset), [s.samples for s in dataset.shards], "simulated", labels=list(dataset.labels))
    order = EpochOrder(0, 0, source.shard_sizes, _WINDOW)
    assert source.samples[order[0]].label is not None
    result = {"start_s": time.perf_counter() - start, "memory_mb": _resident("VmHWM") - before}

    first = len(order) // 2 // (_WINDOW * PER_SHARD) * _WINDOW * PER_SHARD  # two windows from the middle on
    positions = range(first, min(first + 2 * _WINDOW * PER_SHARD, len(order)))
    start = time.process_time()
    chosen = [order[position] for position in positions]
    middle = time.process_time()
    keys = {source.samples[i].key for i in chosen}
    end = time.process_time()
    assert len(keys) == len(positions)
    result["order_us"] = (middle - start) / len(positions) * 1e6
    result["sample_us"] = (end - start) / len(positions) * 1e6
    result["peak_mb"] = _resident("VmHWM") - before
    return result


def _resident(field: str) -> float:
    """Return the megabytes of this process in memory, now (VmRSS) or at most so far (VmHWM)."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field + ":"))
    return int(line.split()[1]) * 1024 / 1e6


def main(arguments: list[str]) -> None:
    """Print the table."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(_run(Path(arguments[1]))))
        return
    print("| samples | start-up s | its memory MB | order, CPU us/position | with the sample, CPU us | peak MB |")
    print("|---:|---:|---:|---:|---:|---:|")
    for samples in [int(float(a)) for a in arguments] or SIZES:
        r = measure(samples)
        print(
            f"| {samples:,} | {r['start_s']:.3f} | {r['memory_mb']:.1f} | {r['order_us']:.2f} | {r['sample_us']:.1f} | "
            f"{r['peak_mb']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
