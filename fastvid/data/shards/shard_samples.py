"""The samples of shards, made from their indexes when they are asked for."""

import logging
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Protocol

from fastvid.data.shards.entry import Entry
from fastvid.data.shards.index import ShardIndex
from fastvid.data.source import Sample
from fastvid.names import spelled

log = logging.getLogger(__name__)

# Indexes kept in memory: two windows of the default size. One of a thousand videos takes about half a megabyte.
_INDEXES = 32


class Indexes(Protocol):
    """The shards of a source, and their indexes."""

    @property
    def names(self) -> Sequence[str]:
        """Return the file names of the tars, in order."""
        ...

    def index(self, shard: int) -> ShardIndex:
        """Return the index of a shard.

        Raises:
            ValueError: it is damaged.
        """
        ...


class ShardSamples(Sequence[Sample]):
    """All samples of all shards, each made from its line of an index when it is asked for."""

    def __init__(self, files: Indexes, sizes: Sequence[int]):
        self._files, self._ends = files, list(accumulate(sizes))
        self._said_old = False
        self._indexes: dict[int, ShardIndex] = {}
        self._lock, self._latest = threading.Lock(), threading.local()

    def __getstate__(self):  # what was read stays behind
        return self._files, self._ends, self._said_old

    def __setstate__(self, state):
        self._files, self._ends, self._said_old = state
        self._indexes, self._lock, self._latest = {}, threading.Lock(), threading.local()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        shard, entry = self.entry(index)
        stem = self._files.names[shard].removesuffix(".tar")
        return Sample(
            spelled(f"{stem}/{entry.key}"), entry.label, entry.caption, entry.video, entry.fields is not None,
            entry.kind,
        )  # fmt: skip

    def entry(self, index: int) -> tuple[int, Entry]:
        """Return the shard and entry of a sample, without a frame table of an older version. Each thread keeps its
        latest entry, because key, size, bytes and frames are asked for one after the other.
        """
        if getattr(self._latest, "index", None) != index:
            shard, row = self.place(index)
            entries = self.entries(shard)
            entry = entries[row] if entries.has_tables else replace(entries[row], video=None)
            self._latest.found, self._latest.index = (shard, entry), index
        return self._latest.found

    def place(self, index: int) -> tuple[int, int]:
        """Return the shard of a sample, and its row there."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        shard = bisect_right(self._ends, index)
        return shard, index - (self._ends[shard - 1] if shard else 0)

    def entries(self, shard: int) -> ShardIndex:
        """Return the index of a shard, from memory if it was among the latest."""
        with self._lock:
            found = self._indexes.pop(shard, None)
            if found is not None:
                self._indexes[shard] = found  # the latest comes last
                return found
        found = self._files.index(shard)  # outside the lock: a slow one must not hold up the others
        if not found.has_tables and not self._said_old:
            self._said_old = True
            log.warning(
                "the index of %s is of an older version, as others may be: frame tables are read from the videos "
                "instead; `python -m fastvid.data index` on the folder makes the indexes anew",
                self._files.names[shard],
            )
        with self._lock:
            while len(self._indexes) >= _INDEXES:
                del self._indexes[next(iter(self._indexes))]
            self._indexes[shard] = found
        return found
