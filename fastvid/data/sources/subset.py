"""Part of a source: chosen samples, or a split in two by key."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastvid.data.source import Origin, Sample, Source, fields_of, origin_of
from fastvid.random import sample_id


def subset(source: Source, wanted: Sequence[bool] | np.ndarray) -> Source:
    """Return the samples of a source for which ``wanted`` is true, in the same shards. No sample is copied."""
    return _Subset(source, wanted)


def split_by_key(source: Source, holdout: float) -> tuple[Source | None, Source | None]:
    """Split a source in two by its samples' keys, so that a video stays on its side when others are added.

    Args:
        source: the videos. Those without a label are all in the first part.
        holdout: expected share of the labelled ones in the second part.

    Returns:
        (training part, test part), None for a part with nothing in it.
    """
    held = np.fromiter(
        (s.label is not None and sample_id(s.key) % 10_000 < holdout * 10_000 for s in source.samples),
        dtype=bool,
        count=len(source.samples),
    )
    return (None if held.all() else subset(source, ~held)), (subset(source, held) if held.any() else None)


class _Subset:
    def __init__(self, source: Source, wanted: Sequence[bool] | np.ndarray):
        self._source = source
        self._rows = _Rows(np.asarray(wanted, dtype=bool), source.shard_sizes)
        self.shard_sizes = self._rows.counts
        self.samples = _Picked(source.samples, self._rows)
        self.description = f"{len(self._rows)} of {source.description}"

    def classes(self) -> list[str]:
        return sorted({sample.label for sample in self.samples if sample.label is not None})

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        self._source.prefetch(current, upcoming)

    def size(self, index: int) -> int:
        return self._source.size(self._rows[index])

    def read(self, index: int) -> bytes:
        return self._source.read(self._rows[index])

    def origin(self, index: int) -> Origin:
        return origin_of(self._source, self._rows[index])

    def fields(self, index: int) -> dict[str, Any]:
        return fields_of(self._source, self._rows[index])


class _Picked(Sequence[Sample]):
    """Some of a source's samples."""

    def __init__(self, samples: Sequence[Sample], rows: "_Rows"):
        self._samples, self._rows = samples, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row):
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        return self._samples[self._rows[row]]


class _Rows:
    """Positions of what is wanted; a byte for each sample, so that ten million take ten megabytes."""

    def __init__(self, wanted: np.ndarray, shard_sizes: Sequence[int]):
        self._wanted, self._starts = wanted, np.concatenate([[0], np.cumsum(shard_sizes, dtype=np.int64)])
        before = np.concatenate([[0], np.cumsum(wanted, dtype=np.int64)])[self._starts]
        self.counts: list[int] = np.diff(before).tolist()
        self._ends = before[1:]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> int:
        if not -len(self) <= row < len(self):
            raise IndexError(f"sample {row} of {len(self)}")
        row %= len(self)
        shard = int(np.searchsorted(self._ends, row, side="right"))
        start = int(self._starts[shard])
        inside = np.flatnonzero(self._wanted[start : int(self._starts[shard + 1])])
        return start + int(inside[row - int(self._ends[shard]) + self.counts[shard]])
