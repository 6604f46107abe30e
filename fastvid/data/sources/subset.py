"""Part of a source: chosen samples, or a split in two by key."""

from collections.abc import Sequence

import numpy as np

from fastvid.data.labels.lerobot import episode_of
from fastvid.data.source import Source
from fastvid.data.sources.wrapped import PickedSamples, WrappedSource
from fastvid.random import sample_id


def subset(source: Source, wanted: Sequence[bool] | np.ndarray) -> Source:
    """Return the samples of a source for which ``wanted`` is true, in the same shards. No sample is copied."""
    return _Subset(source, wanted)


def split_by_key(source: Source, holdout: float) -> tuple[Source | None, Source | None]:
    """Split a source in two by its samples' keys, so that a video stays on its side when others are added. All cameras
    of an episode, as a LeRobot data set has them, are on one side.

    Args:
        source: the videos. Those without a label are all in the first part.
        holdout: expected share of the labelled ones in the second part.

    Returns:
        (training part, test part), None for a part with nothing in it.
    """
    held = np.fromiter(
        (s.label is not None and sample_id(_unit(s.key)) % 10_000 < holdout * 10_000 for s in source.samples),
        dtype=bool,
        count=len(source.samples),
    )
    return (None if held.all() else subset(source, ~held)), (subset(source, held) if held.any() else None)


def _unit(key: str) -> str:
    """Return what must not be split: a video, or all cameras of a robot's episode."""
    return episode_of(key) or key


class _Subset(WrappedSource):
    def __init__(self, source: Source, wanted: Sequence[bool] | np.ndarray):
        super().__init__(source)
        self._rows = _Rows(np.asarray(wanted, dtype=bool), source.shard_sizes)
        self.shard_sizes = self._rows.counts
        self.samples = PickedSamples(source.samples, self._rows)
        self.description = f"{len(self._rows)} of {source.description}"

    def classes(self) -> list[str]:
        return sorted({sample.label for sample in self.samples if sample.label is not None})

    def kinds(self) -> np.ndarray:
        return super().kinds()[self._rows.wanted]

    def _row(self, index: int) -> int:
        return self._rows[index]


class _Rows:
    """Positions of what is wanted; a byte for each sample, so that ten million take ten megabytes."""

    def __init__(self, wanted: np.ndarray, shard_sizes: Sequence[int]):
        self.wanted, self._starts = wanted, np.concatenate([[0], np.cumsum(shard_sizes, dtype=np.int64)])
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
        inside = np.flatnonzero(self.wanted[start : int(self._starts[shard + 1])])
        return start + int(inside[row - int(self._ends[shard]) + self.counts[shard]])
