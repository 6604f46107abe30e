"""A source that hands on videos of another one."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from fastvid.data.source import Origin, Sample, Source, fields_of, frames_of, kinds_of, latents_of, origin_of


class WrappedSource:
    """Videos of another source: all in its order, unless a subclass says otherwise. What is said of them is for a
    subclass to change too.

    Args:
        source: the videos.
    """

    def __init__(self, source: Source):
        self._source, self.shard_sizes = source, source.shard_sizes

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        """Announce the shards that are about to be read, and those after them."""
        self._source.prefetch(current, upcoming)

    def size(self, index: int) -> int:
        """Return the number of bytes of a video."""
        return self._source.size(self._row(index))

    def read(self, index: int) -> bytes:
        """Return the whole file of a video."""
        return self._source.read(self._row(index))

    def origin(self, index: int) -> Origin:
        """Return where a video comes from."""
        return origin_of(self._source, self._row(index))

    def fields(self, index: int) -> dict[str, Any]:
        """Return what is written about a video."""
        return fields_of(self._source, self._row(index))

    def kinds(self) -> np.ndarray:
        """Return the kinds of all videos."""
        return kinds_of(self._source)

    def frames(self, index: int, numbers: Sequence[int]) -> bytes | None:
        """Return some frames of a video of pictures."""
        return frames_of(self._source, self._row(index), numbers)

    def latents(self, index: int) -> bytes | None:
        """Return the file of a video's stored latents."""
        return latents_of(self._source, self._row(index))

    def _row(self, index: int) -> int:
        """Return the number that a sample has in the wrapped source."""
        return index


class Rows(Protocol):
    """Numbers of samples in a wrapped source."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Any: ...


class PickedSamples(Sequence[Sample]):
    """Some of a source's samples, in an order of their own.

    Args:
        samples: all of them.
        rows: number of each in ``samples``.
    """

    def __init__(self, samples: Sequence[Sample], rows: Rows):
        self._samples, self._rows = samples, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row):
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        return self._samples[int(self._rows[row])]
