"""A source whose samples carry other labels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastvid.data.source import Sample, Source
from fastvid.data.sources.wrapped import WrappedSource


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


class _Relabelled(WrappedSource):
    def __init__(self, source: Source, labels: Sequence[str | None], classes: Sequence[str]):
        super().__init__(source)
        self._classes = sorted(classes)
        ids: dict[str | None, int] = {name: number for number, name in enumerate(self._classes)}
        ids[None] = -1
        self.description = source.description
        self.samples = _RelabelledSamples(
            source.samples, np.array([ids[label] for label in labels], np.int32), self._classes
        )

    def classes(self) -> list[str]:
        return list(self._classes)


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
