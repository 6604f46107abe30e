"""Batches of uint8 clips for training, decoded ahead in a separate process."""

import time
import weakref
from collections.abc import Collection, Iterator

import torch

from fastvid.data.bad_samples import Quarantine
from fastvid.data.loader.batch import Batch
from fastvid.data.loader.messages import Task
from fastvid.data.loader.order import LoaderState
from fastvid.data.loader.prefetcher import Prefetcher
from fastvid.data.source import Source
from fastvid.data.worker_pool import default_threads, most_threads
from fastvid.video import Limits, ViewSpec
from fastvid.video.decoders import require


class TrainLoader:
    """An endless stream of training batches in a global order that depends only on the seed.

    Global batch g holds positions [g * batch, (g + 1) * batch) of the concatenated orders of all epochs; this rank
    takes every ``world``-th of them, beginning with its own. A clip's view is drawn with its epoch, so the same
    position always gives the same pixels. A sample that does not decode is quarantined and its place taken by the next
    sample in order.

    Clips are decoded by threads of one child process, which needs no torch for PyAV, into a ring of memory that the two
    share; when the ring is full, decoding waits. A thread of this process copies finished clips into the next batch, in
    pinned memory and on to the GPU by a stream of its own where there is one. Memory is bounded by :meth:`ram_bound`;
    nothing goes through ``/dev/shm``.

    Args:
        source: the videos.
        spec: how views are drawn.
        batch: clips per global batch; a multiple of ``world``.
        seed: seed of order and views.
        threads: decoding threads; default: half the processors this process may use, and more while training waits for
            batches.
        prefetch: batches decoded ahead.
        window: shards mixed by the shuffle, see :class:`fastvid.data.EpochOrder`.
        state: position to begin at.
        rank: rank of this process.
        world: number of processes that share the global batches.
        quarantine: where bad samples go.
        limits: what the decoder refuses.
        decoder: ``"pyav"`` or ``"torchcodec"``, in the child process; ``"dali"`` or ``"torchcodec-cuda"``, of which the
            child only reads and checks the files: whole batches are then decoded on ``device``.
        cache_bytes: bytes of decoded videos kept in memory from epoch to epoch. It does not change the clips.
        device: device of clips, ids and view hashes.
        view_seed: seed of the views; default: ``seed``.
        views: number of different views of each video, which repeat; default: a new view in every epoch.
        no_flip: labels whose clips are never mirrored, see :func:`fastvid.data.mirror_changes`.
        echo: times each window of shards is shown, in a new order but in the same views, before the next one.

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
        no_flip: Collection[str] = (),
        echo: int = 1,
    ):
        device = torch.device(device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device {device}: torch sees no GPU")
        require(decoder, device.type)
        self.quarantine = quarantine or Quarantine()
        self.state = state or LoaderState()
        self.prefetch, self._device = max(1, prefetch), device
        first_threads = default_threads() if threads is None else threads
        self.task = Task(
            source=source, spec=spec, batch=batch, world=world, rank=rank, seed=seed,
            view_seed=seed if view_seed is None else view_seed, views=views, window=window, start=self.state,
            limits=limits or Limits(), cache_bytes=cache_bytes, in_a_row=self.quarantine.policy.in_a_row,
            decoder=decoder, threads=first_threads, most_threads=most_threads() if threads is None else threads,
            no_flip=frozenset(no_flip), echo=echo,
        )  # fmt: skip
        # One batch of the ``prefetch`` is the one being assembled.
        slots = max((self.prefetch - 1) * self.task.local, self.task.most_threads)
        self._maker = Prefetcher(self.task, slots, self.quarantine, device)
        # Also for a loader that is dropped without being closed: its process would remain otherwise.
        self._close = weakref.finalize(self, self._maker.close)
        self._last = time.perf_counter()

    @property
    def closed(self) -> bool:
        """Return whether :meth:`close` was called."""
        return self._maker.closed

    @property
    def threads(self) -> int:
        """Return the current number of decoding threads."""
        return self._maker.process.threads

    @property
    def clip_bytes(self) -> int:
        """Return the bytes of one uint8 clip."""
        T, H, W, C = self.task.clip_shape
        return T * H * W * C

    def ram_bound(self) -> int:
        """Return the most bytes of clips that can exist at once: the ring, the batch being assembled, the one handed
        out, the one before it that the caller may still hold, and the cache. Not included are the decoding process
        itself (:meth:`worker_bytes`), the files and frames that its threads work on, and the ``prefetch`` batches of
        files that wait for a GPU decoder.
        """
        slots = 0 if self.task.by_device else self._maker.process.slots
        return (slots + 3 * self.task.local) * self.clip_bytes + self.task.cache_bytes

    @property
    def description(self) -> str:
        """Return a description of threads and memory, for the log."""
        return (
            f"{self.threads} decoding threads, at most {self.ram_bound() / 1e6:.0f} MB of clips in memory beside the "
            "decoding process (decode_mb in metrics.jsonl)"
        )

    def worker_bytes(self) -> int:
        """Return the bytes of memory that the decoding process holds now, without the ring."""
        return self._maker.process.private_bytes()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self.closed:
            raise ValueError("the loader is closed")
        if self._maker.forked:
            raise RuntimeError("a loader cannot be used in a process that was forked from its own: make one there")
        asked, maker = time.perf_counter(), self._maker
        made = maker.ready.get()
        if made.error is not None:
            maker.ready.put(made)  # for later calls
            raise made.error
        assert made.batch is not None
        assert made.after is not None
        self.state = made.after
        now = time.perf_counter()
        maker.handed_out(waited=now - asked > 0.05 * (now - self._last))
        self._last = now
        if made.copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(made.copied)
            for tensor in (made.batch.clips, made.batch.ids, made.batch.view_hashes):
                tensor.record_stream(current)
        return made.batch

    def close(self) -> None:
        """End the decoding process. Later batches are refused."""
        self._close()

    def __enter__(self) -> "TrainLoader":
        return self

    def __exit__(self, *exc) -> None:
        self.close()
