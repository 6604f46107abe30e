"""A source that hands on the videos of another one."""

from collections.abc import Sequence
from typing import Any

from fastvid.data.source import Origin, Source, fields_of, origin_of


class WrappedSource:
    """The videos of another source, in its order. What is said of them is for a subclass to change.

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
        return self._source.size(index)

    def read(self, index: int) -> bytes:
        """Return the whole file of a video."""
        return self._source.read(index)

    def origin(self, index: int) -> Origin:
        """Return where a video comes from."""
        return origin_of(self._source, index)

    def fields(self, index: int) -> dict[str, Any]:
        """Return what is written about a video."""
        return fields_of(self._source, index)
