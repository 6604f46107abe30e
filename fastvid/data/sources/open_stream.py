"""Opening a data set behind a URL."""

import math
from itertools import accumulate
from pathlib import Path

from fastvid.data.shards.dataset_json import NAME, Dataset
from fastvid.data.shards.reader import ShardSource
from fastvid.data.storage.disk_cache import OVERHEAD, DiskCache, disk_size
from fastvid.data.storage.remote import NotThere, Remote, StreamError
from fastvid.data.storage.streamed_shards import StreamedShards
from fastvid.units import size

LONGEST_DATASET = 256 << 20


def open_stream(remote: Remote, folder: Path, disk_bytes: int, window: int) -> ShardSource:
    """Open the shards of a folder behind a URL, by its ``dataset.json``.

    Args:
        remote: the folder.
        folder: for the cache; a folder in it is used.
        disk_bytes: budget of the cache.
        window: shards that the order mixes.

    Raises:
        FileNotFoundError: there is no ``dataset.json``.
        ValueError: it is damaged or cannot be had, the cache cannot be used, or is too small for two windows.
    """
    remote.check()
    try:
        data = remote.read(NAME, LONGEST_DATASET)
    except NotThere as error:
        raise FileNotFoundError(
            f"{error}: shards are streamed by what it says of them. Run `python -m fastvid.data index` on the folder "
            f"of shards, then upload {NAME} and the indexes beside them; the URL is that of the folder"
        ) from error
    except StreamError as error:
        raise ValueError(str(error)) from error
    dataset = Dataset.from_bytes(data, remote.where(NAME))
    check_budget(dataset, disk_bytes, window, remote.shown)
    files = StreamedShards(remote, dataset, DiskCache(folder / "streamed", disk_bytes))
    return ShardSource(files, [s.samples for s in dataset.shards], remote.shown, labels=list(dataset.labels))


def check_budget(dataset: Dataset, budget: int, window: int, where: str) -> None:
    """Raise ValueError where a cache cannot hold any two windows of a data set."""
    sizes = sorted((disk_size(s.bytes) + disk_size(s.index_bytes) for s in dataset.shards), reverse=True)
    least = list(accumulate(sizes, initial=OVERHEAD))  # of a cache for the largest 0, 1, 2, ... shards
    needed = least[min(2 * window, len(sizes))]
    if budget >= needed:
        return
    fitting = sum(least[min(2 * w, len(sizes))] <= budget for w in range(1, window))
    way_out = f"a --data.window of {fitting}, or " if fitting else "smaller shards, or "
    raise ValueError(
        f"the disk cache may hold {size(budget)}, and two windows of {window} shards of {where} take up to "
        f"{size(needed)}: give {way_out}--data.disk-gb at least {math.ceil(needed / 1e6) / 1e3:g}"
    )
