"""Batches of several parts of a data set, each batch of one part: videos, still images and texts do not stack."""

import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from fastvid.data.loader.order import LoaderState
from fastvid.data.loader.sampler import Coverage, EpochSampler
from fastvid.random import philox4x32, split64

_STREAM = 9  # Philox stream; the orders have it too, with other counters
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: of all steps the one whose multiples spread most evenly
_AT_ONCE = 1024  # batches that are drawn together


@dataclass(frozen=True)
class BatchPart:
    """A part of a mixture.

    Attributes:
        sampler: makes its batches; of the part's shards alone.
        share: of the batches, in units of the sum of all.
        frames: frames of a clip, where the sampler does not say.
    """

    sampler: EpochSampler
    share: float
    frames: int


class BatchMixtureSampler(EpochSampler):
    """The samples of one process, in global batches that are each of one part.

    Which part batch g is of is a pure function of (seed, g): the point ``frac(offset + g / golden ratio)`` falls into
    the shares laid end to end. Such points are spread so evenly that any run of batches has its shares to within a few
    batches. Each part goes through its own order, whole before any of its samples comes again; the n-th batch of a part
    is the same whatever the others are.

    Args:
        parts: in the order in which :func:`fastvid.data.join` or :func:`fastvid.data.by_kind` puts their samples.
        seed: seed of the draw.
        start: where turn 0's global batch begins: number of the batch, and where each part is.

    Raises:
        ValueError: there are no parts, a share is not positive, or the start is one of other parts.
    """

    def __init__(self, parts: Sequence[BatchPart], *, seed: int, start: LoaderState | None = None):
        if not parts or any(not part.share > 0 for part in parts):
            raise ValueError(f"shares of batches must be positive numbers; got {[part.share for part in parts]}")
        begin = start or LoaderState()
        if len(begin.parts) != (len(parts) if begin.parts or begin.sample or begin.epoch else 0):
            raise ValueError(
                f"the run was at {begin}, which is no place in a mixture of {len(parts)} parts: resume with the "
                "collections of before"
            )
        inner = [part.sampler for part in parts]
        first = inner[0]
        super().__init__(
            [size for sampler in inner for size in sampler.shard_sizes], seed=seed, rank=first.rank, world=first.world,
            batch=max(sampler.batch for sampler in inner),
        )  # fmt: skip
        self.start = begin
        self._places = [LoaderState(*place) for place in begin.parts] or [LoaderState()] * len(parts)
        self._parts = [sampler.starting(place) for sampler, place in zip(inner, self._places, strict=True)]
        self._frames = [part.frames for part in parts]
        self._ends = np.cumsum([part.share for part in parts]) / sum(part.share for part in parts)
        self._first_position = [0, *accumulate(len(sampler) for sampler in inner)]
        self._first_sample = [0, *accumulate(sampler.samples for sampler in inner)]
        self._first_shard = [0, *accumulate(len(sampler.shard_sizes) for sampler in inner)]
        self._drawn: list[tuple[int, int]] = []  # of each batch from turn 0 on: its part, and how many it had before
        self._counts = [0] * len(parts)
        self._drawing = threading.Lock()

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_drawing": None, "_drawn": [], "_counts": [0] * len(self._parts)}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._drawing = threading.Lock()

    def __len__(self) -> int:
        return sum(len(sampler) for sampler in self._parts)

    @property
    def slot_frames(self) -> list[int]:
        most = [0] * self.local
        for sampler, frames in zip(self._parts, self._frames, strict=True):
            for slot, own in enumerate(sampler.slot_frames or [frames] * sampler.local):
                most[slot] = max(most[slot], own)
        return most

    def position(self, turn: int) -> LoaderState | None:
        part, first = self._turn(turn)
        sampler, slot = self._parts[part], turn % self.local
        place = sampler.position(first + slot) if slot < sampler.local else None
        return None if place is None else self._outer(part, place)

    def clips(self, turn: int) -> int:
        part, first = self._turn(turn)
        return self._parts[part].clips(first)

    def frames(self, turn: int) -> int:
        part, first = self._turn(turn)
        frames = self._parts[part].frames(first)
        return self._frames[part] if frames is None else frames

    def sample(self, position: LoaderState) -> tuple[int, int]:
        part, place = self._inner(position)
        index, epoch = self._parts[part].sample(place)
        return self._first_sample[part] + index, epoch

    def advance(self, position: LoaderState, steps: int) -> LoaderState:
        part, place = self._inner(position)
        return self._outer(part, self._parts[part].advance(place, steps))

    def after(self, begin: LoaderState) -> LoaderState:
        places = self._places_at(begin)
        part = int(self.drawn(np.array([begin.sample]))[0])
        places[part] = self._parts[part].after(places[part])
        # The first part's epoch is the one that is recorded.
        return LoaderState(places[0].epoch, begin.sample + 1, tuple((one.epoch, one.sample) for one in places))

    def coverage(self, position: LoaderState) -> Coverage:
        parts = self.part_coverage(position)
        return Coverage(sum(part.clips for part in parts), sum(part.unique for part in parts), self.samples)

    def part_coverage(self, position: LoaderState) -> list[Coverage]:
        """Return how much of each part has been shown before a place where a batch begins."""
        places = self._places_at(position)
        return [sampler.coverage(place) for sampler, place in zip(self._parts, places, strict=True)]

    def drawn(self, batches: np.ndarray) -> np.ndarray:
        """Return int64 [G], the part that each of the batches with these numbers is of."""
        high, low, *_ = philox4x32(((_STREAM << 28) | 2, 0, 0, 0), split64(self.seed))
        offset = np.uint64((int(high) << 32 | int(low)) & (2**64 - 1))
        points = (offset + batches.astype(np.uint64) * np.uint64(_GOLDEN)) >> np.uint64(11)  # wraps around
        found = np.searchsorted(self._ends, points.astype(np.float64) / 2.0**53, side="right")
        return np.minimum(found, len(self._ends) - 1)

    def part_of(self, position: LoaderState) -> int:
        return self._inner(position)[0]

    def window_of(self, position: LoaderState) -> int:
        part, place = self._inner(position)
        return self._parts[part].window_of(place)

    def windows_of_batch(self, begin: LoaderState) -> tuple[int, int]:
        part = int(self.drawn(np.array([begin.sample]))[0])
        return self._parts[part].windows_of_batch(self._places_at(begin)[part])

    def shards_at(self, position: LoaderState) -> tuple[list[int], list[int]]:
        """Return the shards of the windows that all parts are in, and of those after them."""
        part, place = self._inner(position)
        self._places[part] = place  # of the others, where they were last asked for
        current: list[int] = []
        upcoming: list[int] = []
        for sampler, first, at in zip(self._parts, self._first_shard, self._places, strict=False):
            for shards, found in zip((current, upcoming), sampler.shards_at(at), strict=True):
                shards += [first + shard for shard in found]
        return current, upcoming

    def _turn(self, turn: int) -> tuple[int, int]:
        """Return the part of a turn's batch, and the turn of the part's sampler at which that batch begins."""
        batch = turn // self.local
        with self._drawing:
            while len(self._drawn) <= batch:
                first = self.start.sample + len(self._drawn)
                for part in self.drawn(np.arange(first, first + _AT_ONCE)).tolist():
                    self._drawn.append((part, self._counts[part]))
                    self._counts[part] += 1
        part, before = self._drawn[batch]
        return part, before * self._parts[part].local

    def _places_at(self, begin: LoaderState) -> list[LoaderState]:
        return [LoaderState(*place) for place in begin.parts] or [LoaderState()] * len(self._parts)

    def _outer(self, part: int, place: LoaderState) -> LoaderState:
        return LoaderState(place.epoch, self._first_position[part] + place.sample)

    def _inner(self, position: LoaderState) -> tuple[int, LoaderState]:
        part = bisect_right(self._first_position, position.sample) - 1
        return part, LoaderState(position.epoch, position.sample - self._first_position[part])
