"""A source whose samples carry other labels."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastvid.data.source import Origin, Sample, Source, fields_of, origin_of


def relabel(source: Source, labels: Sequence[str | None], classes: Sequence[str]) -> Source:
    """Return a source of the same videos with these labels.

    Args:
        source: the videos.
        labels: one for each of its samples, in ``classes``, or None.
        classes: what :meth:`fastvid.data.Source.classes` answers, sorted; also those that none of the samples has, so
            that a class id means the same in all parts of a data set.
    """
    if len(labels) != len(source.samples):
        raise ValueError(f"{len(labels)} labels for {len(source.samples)} samples")
    return _Relabelled(source, labels, classes)


class _Relabelled:
    def __init__(self, source: Source, labels: Sequence[str | None], classes: Sequence[str]):
        self._source, self._classes = source, sorted(classes)
        ids: dict[str | None, int] = {name: number for number, name in enumerate(self._classes)}
        ids[None] = -1
        self.shard_sizes, self.description = source.shard_sizes, source.description
        self.samples = _RelabelledSamples(
            source.samples, np.array([ids[label] for label in labels], np.int32), self._classes
        )

    def classes(self) -> list[str]:
        return list(self._classes)

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        self._source.prefetch(current, upcoming)

    def size(self, index: int) -> int:
        return self._source.size(index)

    def read(self, index: int) -> bytes:
        return self._source.read(index)

    def origin(self, index: int) -> Origin:
        return origin_of(self._source, index)

    def fields(self, index: int) -> dict[str, Any]:
        return fields_of(self._source, index)


class _RelabelledSamples(Sequence[Sample]):
    def __init__(self, samples: Sequence[Sample], ids: np.ndarray, classes: list[str]):
        self._samples, self._ids, self._classes = samples, ids, classes

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = self._ids[index]
        return replace(self._samples[index], label=None if number < 0 else self._classes[number])
