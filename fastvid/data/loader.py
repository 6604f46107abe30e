"""Batches of uint8 clips for training, decoded ahead in a process of their own."""

import os
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fastvid.data.decode_process import DecodeProcess
from fastvid.data.decode_task import Decoded, Task
from fastvid.data.device_decoder import DeviceDecoder
from fastvid.data.order import LoaderState
from fastvid.data.quarantine import Quarantine, TooManyBadSamples
from fastvid.data.source import Source
from fastvid.random import sample_id
from fastvid.video import Limits, ViewSpec
from fastvid.video.decoders import GPU_DECODERS, require


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


@dataclass
class _Made:
    """A finished batch, or what went wrong."""

    batch: Batch | None = None
    after: LoaderState | None = None
    copied: torch.cuda.Event | None = None
    error: BaseException | None = None


class TrainLoader:
    """An endless stream of training batches in a global order that depends on nothing but the seed.

    Global batch g holds positions [g * batch, (g + 1) * batch) of the epochs' orders laid end to end; this rank takes
    every ``world``-th of them, beginning with its own. A clip's view is drawn with its epoch, so the same position
    always gives the same pixels. A sample that does not decode is quarantined and its place taken by the next sample in
    order.

    Clips are decoded by threads of one child process, which imports no torch, into a ring of memory that the two share;
    when the ring is full, decoding waits. A thread of this process copies finished clips into the next batch, in pinned
    memory and on to the GPU by a stream of its own where there is one. Memory is bounded by :meth:`ram_bound`; nothing
    goes through ``/dev/shm``.

    Args:
        source: where videos come from.
        spec: how views are drawn.
        batch: clips per global batch; a multiple of ``world``.
        seed: of order and views.
        threads: decoding threads; default: half the processors this process may use, and more of them while batches
            have to be waited for.
        prefetch: batches decoded ahead.
        window: shards mixed by the shuffle, see :class:`fastvid.data.EpochOrder`.
        state: where to begin.
        rank: this process's place among ``world``.
        world: processes that share the global batches.
        quarantine: where bad samples go.
        limits: what the decoder refuses.
        decoder: ``"pyav"`` or ``"torchcodec"``, in the child process; ``"dali"`` or ``"torchcodec-cuda"``, of which the
            child only reads and checks the files: whole batches are then decoded on ``device``.
        cache_bytes: of decoded videos kept in memory from epoch to epoch. The clips are the same without.
        device: where clips, ids and view hashes are put.
        view_seed: of the views; default: ``seed``.
        views: views drawn of each video, over and over; default: a new one in every epoch.

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
        decoder: str = "pyav",
        cache_bytes: int = 0,
        device: torch.device | str = "cpu",
        view_seed: int | None = None,
        views: int | None = None,
    ):
        if batch < 1 or batch % world:
            raise ValueError(f"a global batch of {batch} clips does not divide among {world} processes")
        require(decoder, str(torch.device(device).type))
        if decoder in GPU_DECODERS and cache_bytes:
            raise ValueError(
                f"decoder {decoder} leaves no frames in the processor's memory to keep: set cache_bytes to 0"
            )
        self.quarantine = quarantine or Quarantine()
        self.state = state or LoaderState()
        self.prefetch, self._device = max(1, prefetch), torch.device(device)
        self.task = Task(
            source=source, spec=spec, batch=batch, world=world, rank=rank, seed=seed,
            view_seed=seed if view_seed is None else view_seed, views=views, window=window, start=self.state,
            limits=limits or Limits(), cache_bytes=cache_bytes, in_a_row=self.quarantine.policy.in_a_row,
            decoder=decoder, threads=threads or default_threads(), most_threads=threads or most_threads(),
        )  # fmt: skip
        # One batch of the ``prefetch`` is the one that the copying thread is filling.
        self._process = DecodeProcess(self.task, max((self.prefetch - 1) * self.task.local, self.task.most_threads))
        self._device_decoder = DeviceDecoder(self.task, self.quarantine, self._device)
        self._ready: queue.Queue[_Made] = queue.Queue()
        self._room = threading.Semaphore(1)  # batches that may be in the making beside the one handed out
        self._closed = threading.Event()
        self._last = time.perf_counter()
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._copier = threading.Thread(target=self._copy_batches, daemon=True, name="clips")
        self._copier.start()

    @property
    def threads(self) -> int:
        """Decoding threads at the moment."""
        return self._process.threads

    @property
    def clip_bytes(self) -> int:
        """Bytes of one uint8 clip."""
        T, H, W, C = self.task.clip_shape
        return T * H * W * C

    def ram_bound(self) -> int:
        """Bytes of clips that can exist at once: the ring, the batch in the making, the one handed out, the one before
        it that the caller has not let go yet, and the cache. The decoding process itself (:meth:`helper_bytes`), with
        the files and frames that its threads are at, comes on top."""
        slots = 0 if self.task.by_device else self._process.slots
        return (slots + 3 * self.task.local) * self.clip_bytes + self.task.cache_bytes

    def helper_bytes(self) -> int:
        """Bytes of memory that the decoding process has for itself now, the ring not counted."""
        return self._process.private_bytes()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._closed.is_set():
            raise ValueError("the loader is closed")
        asked = time.perf_counter()
        made = self._ready.get()
        if made.error is not None:
            self._ready.put(made)  # for whoever asks again
            raise made.error
        now = time.perf_counter()
        self._process.handed_out(waited=now - asked > 0.05 * (now - self._last))
        self._last = now
        self._room.release()
        assert made.batch is not None
        assert made.after is not None
        if made.copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(made.copied)
            for tensor in (made.batch.clips, made.batch.ids, made.batch.view_hashes):
                tensor.record_stream(current)
        self.state = made.after
        return made.batch

    def close(self) -> None:
        """Ends the decoding process."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._process.stop()
        self._room.release()
        self._copier.join()
        self._process.close()

    def __enter__(self) -> "TrainLoader":
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def _copy_batches(self) -> None:
        first, state = 0, self.state
        try:
            while self._room.acquire() and not self._closed.is_set():
                with torch.cuda.stream(self._stream):  # without a GPU there is none, and this does nothing
                    made = self._on_device(self._copy_batch(first))
                first += self.task.local
                state = state.advance(self.task.batch, len(self.task.source.samples))
                made.after = state
                self._ready.put(made)
        except BaseException as error:
            self._ready.put(_Made(error=error))

    def _copy_batch(self, first: int) -> Batch:
        local = self.task.local
        pinned = self._stream is not None
        clips = None
        if not self.task.by_device:
            clips = torch.empty((local, *self.task.clip_shape), dtype=torch.uint8, pin_memory=pinned)
        made: list[Decoded] = []
        for turn in range(first, first + local):
            made.append(self._process.decoded(turn))
            self._note_bad(made[-1])
            if clips is not None:
                self._process.take(turn, clips[turn - first].numpy())
            else:
                self._process.forget(turn)
        if clips is None:
            clips = self._device_decoder.clips(made)
        for one in made:
            self.quarantine.good(one.key)
        return Batch(
            clips=clips,
            ids=_int64([sample_id(one.key) for one in made], pinned),
            view_hashes=_int64([one.view_hash for one in made], pinned),
            keys=[one.key for one in made],
            labels=[one.label for one in made],
            substitutes=[bool(one.bad) for one in made],
            repeats=[one.repeats for one in made],
        )

    def _note_bad(self, made: Decoded) -> None:
        self.quarantine.add_row(made.bad)
        if not made.key and made.file is None:
            raise TooManyBadSamples(f"none of the {len(made.bad)} videos can be decoded; the last is {made.bad[-1][0]}")

    def _on_device(self, batch: Batch) -> _Made:
        if self._stream is None:
            return _Made(batch)
        batch.clips = batch.clips.to(self._device, non_blocking=True)
        batch.ids = batch.ids.to(self._device, non_blocking=True)
        batch.view_hashes = batch.view_hashes.to(self._device, non_blocking=True)
        return _Made(batch, copied=self._stream.record_event())


def _int64(values: list[int], pinned: bool) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64, pin_memory=pinned)


def default_threads() -> int:
    """Half the processors this process may use, at least one: the rest is for the training itself. Processes that
    torchrun started on the same machine share them."""
    return max(1, len(os.sched_getaffinity(0)) // 2 // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def most_threads() -> int:
    """The processors this process may use, shared among the processes that torchrun started on the same machine."""
    return max(default_threads(), len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
