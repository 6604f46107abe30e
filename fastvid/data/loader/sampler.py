"""The sampler: the samples that a process loads, and their order."""

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastvid.data.loader.order import EpochOrder, LoaderState


@dataclass(frozen=True)
class Coverage:
    """The share of the data that has been shown.

    Attributes:
        clips: clips shown.
        unique: different samples among them.
        samples: samples that there are.
    """

    clips: int
    unique: int
    samples: int

    def __str__(self) -> str:
        epochs = self.clips / max(1, self.unique)
        return f"{self.clips} clips of {self.unique} unique samples ({epochs:.2f} times each; {self.samples} there are)"


class EpochSampler:
    """The samples of one process, in an endless global order that depends on nothing but the seed.

    Global batch g holds positions [g * batch, (g + 1) * batch) of the concatenated orders of all epochs; a process
    takes every ``world``-th of them, beginning with its own. Its clips are counted in turns: turn t is position
    ``start + t // local * batch + rank + t % local * world``, where ``local = batch // world``.

    Args:
        shard_sizes: samples per shard, in the source's order.
        batch: clips per global batch; a multiple of ``world``.
        seed: seed of the order.
        window: shards mixed by the shuffle, see :class:`fastvid.data.EpochOrder`.
        echo: times each window of shards is shown, in a new order but in the same views, before the next one.
        rank: rank of this process.
        world: number of processes that share the global batches.
        start: where turn 0's global batch begins.

    Attributes:
        local: this process's clips in a global batch.
        samples: number of samples in the shards.

    Raises:
        ValueError: a number out of range, or the batch does not divide among the processes.
    """

    def __init__(
        self,
        shard_sizes: Sequence[int],
        *,
        batch: int,
        seed: int,
        window: int = 16,
        echo: int = 1,
        rank: int = 0,
        world: int = 1,
        start: LoaderState | None = None,
    ):
        start = start or LoaderState()
        if start.parts:
            raise ValueError(
                f"the run was at {start}, a place in a mixture of {len(start.parts)} parts: resume with the "
                "collections of before"
            )
        if world < 1 or not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} processes: ranks count from 0 to {world - 1}")
        if batch < 1 or batch % world:
            raise ValueError(f"a global batch of {batch} clips does not divide among {world} processes")
        for name, value, least in (
            ("window", window, 1), ("echo", echo, 1), ("seed", seed, 0), ("start.epoch", start.epoch, 0),
            ("start.sample", start.sample, 0),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"{name} must be at least {least}; got {value}")
        self.shard_sizes, self.batch, self.seed, self.window, self.echo = shard_sizes, batch, seed, window, echo
        self.rank, self.world, self.start = rank, world, start
        self.local, self.samples = batch // world, int(np.sum(shard_sizes, dtype=np.int64))
        self._orders: dict[int, EpochOrder] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of positions of an epoch."""
        return self.echo * self.samples

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_orders": {}, "_lock": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def starting(self, start: LoaderState) -> "EpochSampler":
        """Return the same sampler with another place where turn 0's global batch begins."""
        other = copy.copy(self)  # as if it were sent to another process: with a lock and a memory of its own
        other.start = start
        return other

    def position(self, turn: int) -> LoaderState | None:
        """Return the position of a turn's sample in the order; None for a turn without a clip, which only a sampler
        has whose batches differ in size.
        """
        batches, slot = divmod(turn, self.local)
        return self.advance(self.start, batches * self.batch + self.rank + slot * self.world)

    def advance(self, position: LoaderState, steps: int) -> LoaderState:
        """Return the position ``steps`` samples later."""
        return position.advance(steps, len(self))

    def after(self, begin: LoaderState) -> LoaderState:
        """Return where the global batch ends that begins at a position."""
        return self.advance(begin, self.batch)

    @property
    def slot_frames(self) -> list[int] | None:
        """Return the most frames of each of this process's clips of a batch; None where all clips have as many."""
        return None

    def clips(self, turn: int) -> int:
        """Return the number of this process's clips, empty ones included, in the global batch that begins at a turn."""
        return self.local

    def frames(self, turn: int) -> int | None:
        """Return the number of frames of a turn's clip; None for that of all clips."""
        return None

    def sample(self, position: LoaderState) -> tuple[int, int]:
        """Return the index of a position's sample among all samples, and how often it was shown before."""
        return self._order(position.epoch)[position.sample], position.epoch

    def index(self, position: LoaderState) -> int:
        """Return the index of a position's sample among all samples."""
        return self.sample(position)[0]

    def coverage(self, position: LoaderState) -> Coverage:
        """Return how much has been shown before a position."""
        shown = position.epoch * len(self) + position.sample
        return Coverage(shown, min(shown, self.samples), self.samples)

    def part_of(self, position: LoaderState) -> int:
        """Return the part of a mixture of batches that a position is in, whose windows are counted by themselves."""
        return 0

    def window_of(self, position: LoaderState) -> int:
        """Return the number of a position's window, counted from the first epoch's first."""
        # Of most windows an epoch can have: where shards are empty, some have one less.
        windows = -(-len(self.shard_sizes) // self.window)
        return position.epoch * windows + self._order(position.epoch).window_of(position.sample)

    def windows_of_batch(self, begin: LoaderState) -> tuple[int, int]:
        """Return the windows of the first and of the last position of the global batch that begins at a position."""
        return self.window_of(begin), self.window_of(self._last(begin))

    def _last(self, begin: LoaderState) -> LoaderState:
        return self.advance(begin, self.batch - 1)

    def shards_at(self, position: LoaderState) -> tuple[list[int], list[int]]:
        """Return the shards of a position's window, and those of the window after it."""
        order = self._order(position.epoch)
        window = order.window_of(position.sample)
        last = window + 1 == order.windows
        upcoming = self._order(position.epoch + 1).shards_of(0) if last else order.shards_of(window + 1)
        return order.shards_of(window), upcoming

    def _order(self, epoch: int) -> EpochOrder:
        with self._lock:
            if epoch not in self._orders:
                # Threads work around an epoch's end, never further apart than that.
                self._orders = {e: order for e, order in self._orders.items() if abs(e - epoch) <= 1}
                self._orders[epoch] = EpochOrder(self.seed, epoch, self.shard_sizes, self.window, self.echo)
            return self._orders[epoch]
