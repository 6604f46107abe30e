"""Batches of uint8 clips for training, decoded ahead in background threads."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from fastvid.data.frame_cache import FrameCache
from fastvid.data.order import EpochOrder
from fastvid.data.quarantine import Quarantine, TooManyBadSamples
from fastvid.data.source import Source, read_video
from fastvid.random import sample_id
from fastvid.video import DecodeError, Limits, View, ViewSpec, cut_view, decode, decode_view


@dataclass
class Batch:
    """Clips and what identifies them.

    Attributes:
        clips: uint8 [B, T, H, W, 3].
        ids: int64 [B], :func:`fastvid.random.sample_id` of each key.
        view_hashes: int64 [B], :attr:`fastvid.video.View.hash`.
        keys: the samples' keys.
        labels: the samples' labels, None where there is none.
        substitutes: per clip, whether it stands in for a bad sample.
        repeats: per clip, whether it repeats frames because the video has fewer than the clip wants.
    """

    clips: torch.Tensor
    ids: torch.Tensor
    view_hashes: torch.Tensor
    keys: list[str]
    labels: list[str | None]
    substitutes: list[bool]
    repeats: list[bool]


@dataclass(frozen=True)
class LoaderState:
    """Where the next global batch begins; all that a resume needs.

    Attributes:
        epoch: passes over the data completed.
        sample: position in the epoch's order.
    """

    epoch: int = 0
    sample: int = 0


@dataclass
class _Pending:
    batch: Batch
    after: LoaderState
    clips: list[Future] = field(default_factory=list)


class TrainLoader:
    """An endless stream of training batches in a global order that depends on nothing but the seed.

    Global batch g holds positions [g * batch, (g + 1) * batch) of the epochs' orders laid end to end; this rank takes
    every ``world``-th of them, beginning with its own. A clip's view is drawn with its epoch, so the same position
    always gives the same pixels. A sample that does not decode is quarantined and its place taken by the next sample in
    order.

    Clips are decoded by threads (FFmpeg and Pillow release the interpreter lock) straight into the batch they belong
    to. At most ``prefetch`` batches are in the making, so memory is bounded by :meth:`ram_bound` and nothing goes
    through shared memory.

    Args:
        source: where videos come from.
        spec: how views are drawn.
        batch: clips per global batch; a multiple of ``world``.
        seed: of order and views.
        threads: decoding threads; default: half the processors this process may use.
        prefetch: batches decoded ahead.
        window: shards mixed by the shuffle, see :func:`fastvid.data.EpochOrder`.
        state: where to begin.
        rank: this process's place among ``world``.
        world: processes that share the global batches.
        quarantine: where bad samples go.
        limits: what the decoder refuses.
        cache: decoded frames of this source's videos, kept from epoch to epoch. The clips are the same without.

    Example:
        >>> with TrainLoader(open_source("videos"), ViewSpec(), batch=32, seed=0) as loader:
        ...     for batch in loader:
        ...         ...  # loader.state is where to resume after this batch
    """

    def __init__(
        self,
        source: Source,
        spec: ViewSpec,
        *,
        batch: int,
        seed: int,
        threads: int | None = None,
        prefetch: int = 2,
        window: int = 16,
        state: LoaderState | None = None,
        rank: int = 0,
        world: int = 1,
        quarantine: Quarantine | None = None,
        limits: Limits | None = None,
        cache: FrameCache | None = None,
    ):
        if batch < 1 or batch % world:
            raise ValueError(f"a global batch of {batch} clips does not divide among {world} processes")
        self.source, self.spec, self.batch, self.seed = source, spec, batch, seed
        self.threads = threads or default_threads()
        self.prefetch, self.window, self.rank, self.world = max(1, prefetch), window, rank, world
        self.limits = limits or Limits()
        self.quarantine = quarantine or Quarantine()
        self.state = state or LoaderState()
        self._cache = cache or FrameCache(0)
        self._orders: dict[int, EpochOrder] = {}
        self._next = self.state
        self._pending: deque[_Pending] = deque()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="decode")

    @property
    def clip_bytes(self) -> int:
        """Bytes of one uint8 clip."""
        return self.spec.frames * self.spec.size**2 * 3

    def ram_bound(self) -> int:
        """Bytes of clips that can exist at once: batches in the making, the one handed out, the one before it that the
        caller has not let go yet, and the cache. The files being decoded come on top, one for each thread."""
        return (self.prefetch + 2) * (self.batch // self.world) * self.clip_bytes + self._cache.capacity

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        while len(self._pending) < self.prefetch:
            self._pending.append(self._start_batch())
        pending = self._pending[0]
        for future in pending.clips:
            future.result()  # an error in a decoding thread is raised here, with its traceback
        self._pending.popleft()
        self.state = pending.after
        self._pending.append(self._start_batch())
        return pending.batch

    def close(self) -> None:
        """Stops the decoding threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()

    def __enter__(self) -> "TrainLoader":
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def _start_batch(self) -> _Pending:
        local, spec = self.batch // self.world, self.spec
        batch = Batch(
            clips=torch.empty((local, spec.frames, spec.size, spec.size, 3), dtype=torch.uint8),
            ids=torch.empty(local, dtype=torch.int64),
            view_hashes=torch.empty(local, dtype=torch.int64),
            keys=[""] * local,
            labels=[None] * local,
            substitutes=[False] * local,
            repeats=[False] * local,
        )
        start = self._next
        pending = _Pending(batch, self._advance(start, self.batch))
        for slot in range(local):
            position = self._advance(start, self.rank + slot * self.world)
            pending.clips.append(self._pool.submit(self._fill, batch, slot, position))
        self._next = pending.after
        return pending

    def _advance(self, state: LoaderState, steps: int) -> LoaderState:
        epochs, sample = divmod(state.sample + steps, len(self.source.samples))
        return LoaderState(state.epoch + epochs, sample)

    def _sample_at(self, position: LoaderState) -> int:
        order = self._orders.get(position.epoch)
        if order is None:
            order = EpochOrder(self.seed, position.epoch, self.source.shard_sizes, self.window)
            # Threads work around an epoch's end, never further apart than that.
            self._orders = {e: o for e, o in self._orders.items() if abs(e - position.epoch) <= 1}
            self._orders[position.epoch] = order
        return order[position.sample]

    def _fill(self, batch: Batch, slot: int, position: LoaderState) -> None:
        """Decodes the sample at ``position``, or the first good one after it, into its slot of the batch."""
        bad_in_a_row = 0
        while True:
            index = self._sample_at(position)
            sample = self.source.samples[index]
            try:  # bad ones too: whether a view can be cut must not depend on what was met before
                view = self._decode(index, position.epoch, batch.clips[slot].numpy())
                break
            except DecodeError as error:
                self.quarantine.add(sample.key, error)
            bad_in_a_row += 1
            self.quarantine.check_row(bad_in_a_row, sample.key)
            if bad_in_a_row >= len(self.source.samples):
                raise TooManyBadSamples(f"none of the {bad_in_a_row} videos can be decoded; the last is {sample.key}")
            position = self._advance(position, 1)
        self.quarantine.good(sample.key)
        batch.ids[slot] = sample_id(sample.key)
        batch.view_hashes[slot] = view.hash
        batch.keys[slot], batch.labels[slot] = sample.key, sample.label
        batch.substitutes[slot], batch.repeats[slot] = bad_in_a_row > 0, view.repeats_frames

    def _decode(self, index: int, draw: int, out: np.ndarray) -> View:
        sample = self.source.samples[index]
        cached = self._cache.get(index)
        if cached is not None:
            info, frames = cached
            view = self.spec.draw(sample.key, self.seed, draw, info)
            cut_view(frames, view, out)
            return view
        data, info = read_video(self.source, index, self.limits)
        view = self.spec.draw(sample.key, self.seed, draw, info)
        if self._cache.reserve(info):
            try:
                frames = decode(data, range(info.frames), info=info)
            except DecodeError:  # damaged somewhere, perhaps not where this view looks
                self._cache.release(info)
            else:
                self._cache.put(index, info, frames)
                cut_view(frames, view, out)
                return view
        decode_view(data, view, info=info, out=out)
        return view


def default_threads() -> int:
    """Half the processors this process may use, at least one: the rest is for the training itself. Processes that
    torchrun started on the same machine share them."""
    return max(1, len(os.sched_getaffinity(0)) // 2 // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
