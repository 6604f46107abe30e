"""A source whose samples are sorted by kind: videos first, then still images, then texts without either."""

from collections.abc import Sequence

import numpy as np

from fastvid.data.inventory import Item, items_of
from fastvid.data.source import KINDS, Kind, Source, kinds_of
from fastvid.data.sources.wrapped import PickedSamples, WrappedSource


def by_kind(source: Source) -> tuple[Source, dict[Kind, Source]]:
    """Sort the samples of a source by their kinds; within a kind they keep their order and their shards.

    Returns:
        (the source sorted, which is the same one where there is one kind only; the samples of each kind as a source,
        whose shards follow each other in the sorted one).
    """
    kinds = kinds_of(source)
    found = np.unique(kinds).tolist()
    if len(found) < 2:
        return source, {KINDS[number]: source for number in found}
    shards = np.repeat(np.arange(len(source.shard_sizes)), source.shard_sizes)
    parts: dict[Kind, Source] = {}
    for number in found:
        sizes = np.bincount(shards[kinds == number], minlength=len(source.shard_sizes)).tolist()
        parts[KINDS[number]] = _Rearranged(source, np.flatnonzero(kinds == number), sizes, f"{KINDS[number]}s")
    sizes = [size for part in parts.values() for size in part.shard_sizes]
    said = ", ".join(f"{len(part.samples)} {kind}s" for kind, part in parts.items())
    return _Rearranged(source, np.argsort(kinds, kind="stable"), sizes, said), parts


class _Rearranged(WrappedSource):
    """Samples of a source in another order; shard ``s`` holds some of those of the source's shard ``s % count``."""

    def __init__(self, source: Source, rows: np.ndarray, sizes: list[int], said: str):
        super().__init__(source)
        self._rows, self.shard_sizes = rows, sizes
        self.samples = PickedSamples(source.samples, rows)
        self.description = f"{said} of {source.description}"

    def classes(self) -> list[str]:
        return self._source.classes()

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        count = len(self._source.shard_sizes)
        now = list(dict.fromkeys(shard % count for shard in current))
        self._source.prefetch(now, [s for s in dict.fromkeys(shard % count for shard in upcoming) if s not in now])

    def inventory(self) -> list[Item]:
        """Return the source's inventory; see :mod:`fastvid.data.inventory`."""
        return items_of(self._source)

    def kinds(self) -> np.ndarray:
        return super().kinds()[self._rows]

    def _row(self, index: int) -> int:
        return int(self._rows[index])
