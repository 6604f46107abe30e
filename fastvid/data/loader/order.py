"""The order of an epoch, as a pure function of (seed, epoch, shard sizes)."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastvid.random import philox4x32, split64

_STREAM_SHARDS, _STREAM_SAMPLES = 9, 10


@dataclass(frozen=True)
class LoaderState:
    """The position where the next global batch begins; all that a resume needs.

    Attributes:
        epoch: passes over the data completed.
        sample: position in the epoch's order.
        parts: where each part is, as (epoch, position), in a mixture of batches
            (:class:`fastvid.data.BatchMixtureSampler`), of which ``sample`` is then the number; else empty.
    """

    epoch: int = 0
    sample: int = 0
    parts: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.parts:  # a file gives lists
            object.__setattr__(self, "parts", tuple((int(epoch), int(sample)) for epoch, sample in self.parts))

    def advance(self, steps: int, samples: int) -> "LoaderState":
        """Return the place ``steps`` positions later, in epochs of ``samples`` positions."""
        epochs, sample = divmod(self.sample + steps, samples)
        return LoaderState(self.epoch + epochs, sample)


class EpochOrder(Sequence[int]):
    """A permutation of all samples in which nearby positions touch few shards.

    The shards are permuted, dealt into windows of ``window`` shards, and the samples of each window are permuted
    together. Neither ranks nor workers enter: each takes its share of the one global order. A window is permuted when
    it is first asked for, and only the latest few are kept: what a position costs does not grow with the data set.

    Args:
        seed: the run's seed, in [0, 2**63).
        epoch: in [0, 2**32).
        shard_sizes: samples per shard, in the source's order.
        window: shards that are mixed; with at least as many as there are, the shuffle is complete.
        echo: times each window is gone through, in a new order each time, before the next one: the epoch has so many
            positions for each sample (data echoing, arXiv 1907.05550).
    """

    _KEPT = 3

    def __init__(self, seed: int, epoch: int, shard_sizes: Sequence[int] | np.ndarray, window: int = 16, echo: int = 1):
        self._seed, self._epoch, self._window, self._echo = seed, epoch, window, echo
        self._sizes = np.asarray(shard_sizes, dtype=np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._shards = np.argsort(_keys(seed, epoch, _STREAM_SHARDS, np.arange(len(self._sizes))), kind="stable")
        ends = np.cumsum(self._sizes[self._shards])[window - 1 :: window]
        total = int(self._sizes.sum())
        self._ends = echo * (ends if len(ends) and ends[-1] == total else np.append(ends, total))
        self._permuted: dict[tuple[int, int], np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, position):
        """Return the index of the sample at a position."""
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of an epoch of {len(self)} samples")
        window = self.window_of(position)
        begin, end = self.span(window)
        repeat, at = divmod(position - begin, (end - begin) // self._echo)
        return int(self._samples(window, repeat)[at])

    @property
    def windows(self) -> int:
        """Return the number of windows in the epoch."""
        return len(self._ends)

    def window_of(self, position: int) -> int:
        """Return the window that holds a position."""
        return int(np.searchsorted(self._ends, position, side="right"))

    def span(self, window: int) -> tuple[int, int]:
        """Return the first position of a window, and the one behind its last."""
        return (int(self._ends[window - 1]) if window else 0), int(self._ends[window])

    def shards_of(self, window: int) -> list[int]:
        """Return the shards of a window."""
        return self._shards[window * self._window : (window + 1) * self._window].tolist()

    def whole(self) -> np.ndarray:
        """Return the whole order, int64 [echo * samples]."""
        return np.concatenate([self._permute(w, r) for w in range(self.windows) for r in range(self._echo)])

    def _samples(self, window: int, repeat: int) -> np.ndarray:
        with self._lock:
            place = (window, repeat)
            if place not in self._permuted:
                while len(self._permuted) >= self._KEPT:
                    del self._permuted[next(iter(self._permuted))]
                self._permuted[place] = self._permute(window, repeat)
            return self._permuted[place]

    def _permute(self, window: int, repeat: int) -> np.ndarray:
        ranges = [np.arange(self._starts[s], self._starts[s] + self._sizes[s]) for s in self.shards_of(window)]
        members = np.concatenate(ranges) if ranges else np.empty(0, np.int64)
        return members[np.argsort(_keys(self._seed, self._epoch, _STREAM_SAMPLES, members, repeat), kind="stable")]


def _keys(seed: int, epoch: int, stream: int, index: np.ndarray, repeat: int = 0) -> np.ndarray:
    # The index takes a counter word of its own: there may be more samples than the 2**28 a shared word could hold.
    low, high, _, _ = philox4x32(((stream << 28) | repeat, epoch, *split64(index)), split64(seed))
    return (np.asarray(high) << 31) | (np.asarray(low) >> 1)
