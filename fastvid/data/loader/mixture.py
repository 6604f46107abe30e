"""Several parts of a data set mixed in shares that may change as training goes on."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np

from fastvid.data.loader.order import EpochOrder, LoaderState
from fastvid.data.loader.sampler import Coverage, EpochSampler
from fastvid.random import philox4x32, split64

_STREAM = 9  # Philox stream; the order of shards has it too, with other counters
_AT_ONCE = 1024  # batches whose counts are computed together, at least


class Shares(Protocol):
    """The share of each part in each batch: a pure function of the batch's number."""

    def __call__(self, batches: np.ndarray) -> np.ndarray:
        """Return float64 [G, P], not negative and not all zero in a row, for the batches with these numbers [G]."""
        ...


@dataclass(frozen=True)
class FixedShares:
    """Shares that stay as they are."""

    shares: tuple[float, ...]

    def __call__(self, batches: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.array(self.shares, np.float64), (len(batches), len(self.shares)))


class MixtureSampler(EpochSampler):
    """The samples of one process, of global batches that are mixed from several parts.

    How many clips of batch g are of which part is a pure function of (seed, g): its shares times the batch, rounded up
    or down at random so that they are right on average. Each part has an endless order of its own, as
    :class:`EpochSampler` has, and is gone through whole before any of its samples comes again.

    Args:
        parts: for each part the sizes of its shards; the parts' shards follow each other in the source, as
            :func:`fastvid.data.join` puts them.
        shares: of the parts in each batch.
        batch: clips per global batch; a multiple of ``world``.
        seed: seed of the orders and of the rounding.
        window: shards of each part that are mixed by the shuffle.
        rank: rank of this process.
        world: number of processes that share the global batches.
        start: where turn 0's global batch begins. Its samples are clips shown, in units of all samples.

    Raises:
        ValueError: a number out of range, a part without samples, or a start that no batch begins at.
    """

    def __init__(
        self,
        parts: Sequence[Sequence[int]],
        shares: Shares,
        *,
        batch: int,
        seed: int,
        window: int = 16,
        rank: int = 0,
        world: int = 1,
        start: LoaderState | None = None,
    ):
        super().__init__(
            [size for part in parts for size in part], batch=batch, seed=seed, window=window, rank=rank, world=world,
            start=start,
        )  # fmt: skip
        self.parts, self.shares = [list(part) for part in parts], shares
        self._sizes = np.array([sum(part) for part in parts], np.int64)
        if not len(self._sizes) or not self._sizes.all():
            raise ValueError("every part of a mixture needs samples")
        self._first_sample = np.cumsum(self._sizes) - self._sizes
        self._first_shard = [0, *accumulate(len(part) for part in self.parts)]
        if self._clip(self.start) % batch:
            raise ValueError(f"no batch of {batch} clips begins at {self.start}: resume with the batch size of before")
        self._shown = np.zeros((1, len(self.parts)), np.int64)  # [G + 1, P], clips of each part before batch g
        self._growing = threading.Lock()
        self._part_orders: dict[tuple[int, int], EpochOrder] = {}

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_growing": None, "_part_orders": {}, "_shown": self._shown[:1]}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._growing = threading.Lock()

    def sample(self, position: LoaderState) -> tuple[int, int]:
        batch, slot = divmod(self._clip(position), self.batch)
        before, after = self._counts(batch)
        ends = np.cumsum(after - before)
        part = int(np.searchsorted(ends, slot, side="right"))
        taken = int(before[part] + slot - (ends[part - 1] if part else 0))
        epoch, place = divmod(taken, int(self._sizes[part]))
        return int(self._first_sample[part]) + self._part_order(part, epoch)[place], epoch

    def part_coverage(self, position: LoaderState) -> list[Coverage]:
        """Return how much of each part has been shown before a position where a batch begins."""
        shown, _ = self._counts(self._clip(position) // self.batch)
        rows = zip(shown.tolist(), self._sizes.tolist(), strict=True)
        return [Coverage(clips, min(clips, samples), samples) for clips, samples in rows]

    def coverage(self, position: LoaderState) -> Coverage:
        parts = self.part_coverage(position)
        return Coverage(sum(part.clips for part in parts), sum(part.unique for part in parts), self.samples)

    def window_of(self, position: LoaderState) -> int:
        """Return how many windows, of all parts together, have been left before a position's batch."""
        total = 0
        for part, (epoch, place) in enumerate(self._places(position)):
            order = self._part_order(part, epoch)
            windows = -(-len(self.parts[part]) // self.window)
            total += epoch * windows + order.window_of(place)
        return total

    def shards_at(self, position: LoaderState) -> tuple[list[int], list[int]]:
        current: list[int] = []
        upcoming: list[int] = []
        for part, (epoch, place) in enumerate(self._places(position)):
            order, first = self._part_order(part, epoch), self._first_shard[part]
            window = order.window_of(place)
            last = window + 1 == order.windows
            following = self._part_order(part, epoch + 1).shards_of(0) if last else order.shards_of(window + 1)
            current += [first + shard for shard in order.shards_of(window)]
            upcoming += [first + shard for shard in following]
        return current, upcoming

    def _places(self, position: LoaderState) -> list[tuple[int, int]]:
        """Return where each part's order is when a position's batch begins: (epoch, place)."""
        shown, _ = self._counts(self._clip(position) // self.batch)
        return [divmod(clips, samples) for clips, samples in zip(shown.tolist(), self._sizes.tolist(), strict=True)]

    def _clip(self, position: LoaderState) -> int:
        """Return how many clips come before a position."""
        return position.epoch * len(self) + position.sample

    def _counts(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return int64 [P] each: clips of each part before a batch, and behind it."""
        with self._growing:
            while len(self._shown) < batch + 2:
                first = len(self._shown) - 1
                drawn = self._drawn(np.arange(first, first + max(first, _AT_ONCE)))  # twice as many: linear in all
                self._shown = np.concatenate([self._shown, self._shown[-1] + np.cumsum(drawn, axis=0)])
            return self._shown[batch], self._shown[batch + 1]

    def _drawn(self, batches: np.ndarray) -> np.ndarray:
        """Return int64 [G, P], clips of each part in each batch: rows add up to the batch."""
        shares = self.shares(batches)
        if shares.shape != (len(batches), len(self.parts)) or shares.min() < 0 or not shares.sum(1).all():
            raise ValueError(f"the shares of {len(self.parts)} parts must be as many numbers, not negative, not all 0")
        ends = np.cumsum(shares, axis=1)
        ends = ends / ends[:, -1:] * self.batch
        word, *_ = philox4x32(((_STREAM << 28) | 1, 0, *split64(batches)), split64(self.seed))
        # One uniform number for all boundaries between parts: each part is rounded up or down, none is lost.
        points = np.floor(ends + (np.asarray(word) / 2.0**32)[:, None]).astype(np.int64)
        points[:, -1] = self.batch
        return np.diff(points, axis=1, prepend=0)

    def _part_order(self, part: int, epoch: int) -> EpochOrder:
        with self._lock:
            order = self._part_orders.get((part, epoch))
            if order is None:
                near = {p: o for p, o in self._part_orders.items() if p[0] != part or abs(p[1] - epoch) <= 1}
                seed = (self.seed + (part << 40)) % 2**63
                order = EpochOrder(seed, epoch, self.parts[part], self.window)
                self._part_orders = {**near, (part, epoch): order}
            return order
