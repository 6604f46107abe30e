"""Several sources read as one."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np

from fastvid.data.inventory import Item, items_of
from fastvid.data.source import Origin, Sample, Source, fields_of, frames_of, kinds_of, latents_of, origin_of


def join(sources: Mapping[str, Source]) -> Source:
    """Join sources in the mapping's order. Each name and a slash are put before the keys of its samples.

    Raises:
        ValueError: there are none.
    """
    if not sources:
        raise ValueError("there are no sources to join")
    return _Joined(sources)


class _Joined:
    def __init__(self, sources: Mapping[str, Source]):
        self._names, self._sources = list(sources), list(sources.values())
        self._ends = list(accumulate(len(source.samples) for source in self._sources))
        self._shards = list(accumulate(len(source.shard_sizes) for source in self._sources))
        self.shard_sizes = [size for source in self._sources for size in source.shard_sizes]
        self.samples = _JoinedSamples(self)
        self.description = " and ".join(source.description for source in self._sources)

    def classes(self) -> list[str]:
        return sorted({label for source in self._sources for label in source.classes()})

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        first = 0
        for source, end in zip(self._sources, self._shards, strict=True):
            mine = ([shard - first for shard in shards if first <= shard < end] for shards in (current, upcoming))
            source.prefetch(*mine)
            first = end

    def inventory(self) -> list[Item]:
        """Return the inventories of the sources, with the sources' names in front; see
        :mod:`fastvid.data.inventory`.
        """
        rows = zip(self._names, self._sources, strict=True)
        return [replace(item, name=f"{name}/{item.name}") for name, source in rows for item in items_of(source)]

    def size(self, index: int) -> int:
        _, source, row = self.place(index)
        return source.size(row)

    def read(self, index: int) -> bytes:
        _, source, row = self.place(index)
        return source.read(row)

    def origin(self, index: int) -> Origin:
        name, source, row = self.place(index)
        origin = origin_of(source, row)
        return replace(origin, name=f"{name}/{origin.name}")

    def fields(self, index: int) -> dict[str, Any]:
        _, source, row = self.place(index)
        return fields_of(source, row)

    def latents(self, index: int) -> bytes | None:
        _, source, row = self.place(index)
        return latents_of(source, row)

    def kinds(self) -> np.ndarray:
        return np.concatenate([kinds_of(source) for source in self._sources])

    def frames(self, index: int, numbers: Sequence[int]) -> bytes | None:
        _, source, row = self.place(index)
        return frames_of(source, row, numbers)

    def sample(self, index: int) -> Sample:
        name, source, row = self.place(index)
        sample = source.samples[row]
        return replace(sample, key=f"{name}/{sample.key}")

    def place(self, index: int) -> tuple[str, Source, int]:
        """Return the name of a sample's source, the source, and the sample's index there."""
        count = self._ends[-1]
        if not -count <= index < count:
            raise IndexError(f"sample {index} of {count}")
        index %= count
        which = bisect_right(self._ends, index)
        return self._names[which], self._sources[which], index - (self._ends[which - 1] if which else 0)


class _JoinedSamples(Sequence[Sample]):
    def __init__(self, joined: _Joined):
        self._joined = joined

    def __len__(self) -> int:
        return self._joined._ends[-1]

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._joined.sample(index)
