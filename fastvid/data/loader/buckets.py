"""Batches of videos of about the same length, within a budget of frames."""

import threading
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fastvid.data.loader.order import LoaderState
from fastvid.data.loader.padded_views import frames_used
from fastvid.data.loader.sampler import EpochSampler
from fastvid.data.source import Source

_KEPT = 4  # windows whose batches are kept


@dataclass(frozen=True)
class FrameBuckets:
    """The lengths that clips may have.

    Attributes:
        lengths: frames of a clip, ascending; a video has the smallest that holds all frames that are used of it.
        fps: frames used of each second, as many as the longest has room for; as :class:`fastvid.data.PaddedDraws`.
        budget: frames of a global batch, those that are padding included.
    """

    lengths: tuple[int, ...] = (4, 8, 16, 32, 64)
    fps: float = 1.0
    budget: int = 256

    def __post_init__(self) -> None:
        if not self.lengths or self.lengths[0] < 1 or any(b <= a for a, b in pairwise(self.lengths)):
            raise ValueError(f"the lengths of clips must be ascending numbers of frames; got {self.lengths}")
        if self.fps <= 0:
            raise ValueError(f"fps must be positive; got {self.fps}")

    def clips(self, length: int, world: int) -> int:
        """Return the number of clips of a length in a global batch, a multiple of ``world``.

        Raises:
            ValueError: the budget is too small for one clip of each process.
        """
        clips = self.budget // length // world * world
        if not clips:
            raise ValueError(
                f"a budget of {self.budget} frames does not hold a clip of {length} frames for each of {world} "
                "processes: raise it, or take shorter clips"
            )
        return clips

    def of(self, source: Source, first: int, count: int) -> np.ndarray:
        """Return int64 [count]: which length the samples from ``first`` on have.

        Raises:
            ValueError: the source does not know how long its videos are.
        """
        found = np.empty(count, np.int64)
        for number in range(count):
            sample = source.samples[first + number]
            if sample.video is None:
                # A video that could not be read when it was indexed will be named when it is loaded.
                found[number] = 0 if _indexed(source) else _unknown(source)
                continue
            used = frames_used(min(self.lengths[-1], sample.video.frames), self.fps, sample.video.duration)
            found[number] = bisect_left(self.lengths, used)
        return found


@dataclass(frozen=True)
class _Window:
    """The batches of a window of shards.

    Attributes:
        order: int64 [n], the window's samples, batch after batch.
        starts: int64 [B + 1], where each batch begins in ``order``, and the end.
        bucket: int64 [B], number of each batch's length.
    """

    order: np.ndarray
    starts: np.ndarray
    bucket: np.ndarray


class BucketSampler(EpochSampler):
    """The samples of one process, in global batches of clips of one length each.

    The samples of a window of shards, in the order of :class:`fastvid.data.EpochOrder`, are dealt to the lengths; a
    batch is handed out when it is full, and at the window's end those that are not. Their shape is that of a full one:
    the clips that lack are empty. So every sample is shown once an epoch, and positions count samples, as those of
    :class:`EpochSampler` do. What a batch holds depends on the seed, the shards and the budget alone.

    Args:
        source: the videos, in shards with an index, which says how long they are.
        buckets: lengths and budget.
        seed: seed of the order.
        window: shards mixed by the shuffle.
        rank: rank of this process.
        world: number of processes that share the global batches.
        start: where turn 0's global batch begins.

    Raises:
        ValueError: a number out of range, a budget that is too small, or a start where no batch begins.
    """

    def __init__(
        self,
        source: Source,
        buckets: FrameBuckets,
        *,
        seed: int,
        window: int = 16,
        rank: int = 0,
        world: int = 1,
        start: LoaderState | None = None,
    ):
        self.buckets, self._source = buckets, source
        self._sizes = [buckets.clips(length, world) for length in buckets.lengths]
        most = max(self._sizes)
        super().__init__(
            source.shard_sizes, batch=most, seed=seed, window=window, rank=rank, world=world, start=start
        )  # fmt: skip
        self._windows: dict[tuple[int, int], _Window] = {}
        self._begins = array("q", [self.start.epoch * len(self) + self.start.sample])  # of the batches from turn 0 on
        self._walking = threading.RLock()
        if self.samples:
            self._batch_at(self.start)

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_windows": {}, "_walking": None}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._walking = threading.RLock()

    def starting(self, start: LoaderState) -> "BucketSampler":
        other = super().starting(start)
        assert isinstance(other, BucketSampler)
        other._begins = array("q", [start.epoch * len(self) + start.sample])
        if self.samples:
            other._batch_at(start)
        return other

    @property
    def slot_frames(self) -> list[int]:
        """Return the most frames of each of this process's clips of a batch: long clips are few."""
        lengths = list(zip(self.buckets.lengths, self._sizes, strict=True))
        return [max(length for length, clips in lengths if clips // self.world > slot) for slot in range(self.local)]

    def position(self, turn: int) -> LoaderState | None:
        number, slot = divmod(turn, self.local)
        begin = self._begin(number)
        window, batch = self._batch_at(begin)
        place = self.rank + slot * self.world
        if place >= window.starts[batch + 1] - window.starts[batch]:
            return None
        return self.advance(begin, place)

    def clips(self, turn: int) -> int:
        return self._sizes[self._bucket(turn)] // self.world

    def frames(self, turn: int) -> int:
        return self.buckets.lengths[self._bucket(turn)]

    def after(self, begin: LoaderState) -> LoaderState:
        window, batch = self._batch_at(begin)
        return self.advance(begin, int(window.starts[batch + 1] - window.starts[batch]))

    def sample(self, position: LoaderState) -> tuple[int, int]:
        window, first = self._window_at(position)
        return int(window.order[position.sample - first]), position.epoch

    def _last(self, begin: LoaderState) -> LoaderState:
        return begin  # a batch lies in one window

    def _bucket(self, turn: int) -> int:
        window, batch = self._batch_at(self._begin(turn // self.local))
        return int(window.bucket[batch])

    def _begin(self, number: int) -> LoaderState:
        """Return where a batch begins, counted from turn 0."""
        with self._walking:
            while len(self._begins) <= number:
                after = self.after(LoaderState(*divmod(self._begins[-1], len(self))))
                self._begins.append(after.epoch * len(self) + after.sample)
            return LoaderState(*divmod(self._begins[number], len(self)))

    def _batch_at(self, begin: LoaderState) -> tuple[_Window, int]:
        """Return the window of the batch that begins at a position, and its number there."""
        window, first = self._window_at(begin)
        batch = int(np.searchsorted(window.starts, begin.sample - first))
        if window.starts[batch] != begin.sample - first:
            raise ValueError(
                f"no batch begins at {begin}: resume with the frame budget, the lengths of clips, the number of "
                "processes and the videos of before"
            )
        return window, batch

    def _window_at(self, position: LoaderState) -> tuple[_Window, int]:
        """Return the batches of a position's window, and the window's first position."""
        order = self._order(position.epoch)
        number = order.window_of(position.sample)
        first, end = order.span(number)
        place = (position.epoch, number)
        with self._walking:
            if place not in self._windows:
                while len(self._windows) >= _KEPT:
                    del self._windows[next(iter(self._windows))]
                self._windows[place] = self._dealt(np.array(order[first:end]), order.shards_of(number))
            return self._windows[place], first

    def _dealt(self, samples: np.ndarray, shards: Sequence[int]) -> _Window:
        """Deal a window's samples to batches of one length each."""
        starts = np.cumsum(self.shard_sizes) - np.asarray(self.shard_sizes)
        bucket_of: dict[int, int] = {}
        for shard in shards:
            first, count = int(starts[shard]), self.shard_sizes[shard]
            bucket_of.update(zip(range(first, first + count), self.buckets.of(self._source, first, count), strict=True))
        waiting: list[list[int]] = [[] for _ in self._sizes]
        batches: list[tuple[int, list[int]]] = []
        for sample in samples.tolist():
            bucket = int(bucket_of[sample])
            waiting[bucket].append(sample)
            if len(waiting[bucket]) == self._sizes[bucket]:
                batches.append((bucket, waiting[bucket]))
                waiting[bucket] = []
        batches += [(bucket, rest) for bucket, rest in enumerate(waiting) if rest]
        return _Window(
            np.array([sample for _, batch in batches for sample in batch], np.int64),
            np.cumsum([0, *(len(batch) for _, batch in batches)]),
            np.array([bucket for bucket, _ in batches], np.int64),
        )


def _indexed(source: Source) -> bool:
    return any(source.samples[index].video is not None for index in range(min(64, len(source.samples))))


def _unknown(source: Source) -> int:
    raise ValueError(
        f"clips by length need an index that says how long each video is, which {source.description} lacks: pack them "
        "into shards (python -m fastvid.data pack), or take clips of one length"
    )
