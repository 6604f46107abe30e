"""Batches of uint8 clips for training, decoded ahead in a separate process."""

import time
import weakref
from collections.abc import Iterator

import torch

from fastvid.data.bad_samples import Quarantine
from fastvid.data.loader.batch import Batch
from fastvid.data.loader.plan import DecodeOptions, DecodePlan
from fastvid.data.loader.prefetcher import Prefetcher
from fastvid.data.loader.sampler import EpochSampler
from fastvid.data.loader.views import ViewDraws
from fastvid.data.source import Source
from fastvid.data.text.rows import TextCollator
from fastvid.data.worker_pool import default_threads, most_threads
from fastvid.units import size
from fastvid.video.decoders import require


class TrainLoader:
    """An endless stream of training batches, decoded ahead.

    A clip's view is drawn with its epoch, so the same position of the order always gives the same pixels. A sample that
    does not decode is quarantined and its place taken by the next sample in order.

    Clips are decoded by threads of one child process, which needs no torch for PyAV, into a ring of memory that the two
    share; when the ring is full, decoding waits. A thread of this process copies finished clips into the next batch, in
    pinned memory and on to the GPU by a stream of its own where there is one. Memory is bounded by :meth:`ram_bound`;
    nothing goes through ``/dev/shm``.

    Args:
        source: the videos.
        draws: their views.
        sampler: the order, made from ``source.shard_sizes``; it says where to begin.
        options: how clips are decoded.
        quarantine: where bad samples go.
        device: device of clips and ids.
        text: chooses conversations about each sample, and makes tensors of them for ``batch.extra``; None reads none.

    Attributes:
        state: position after the batch handed out last, which is where to resume.

    Raises:
        ValueError: the source is empty, the sampler is of another one, or the decoder cannot run here.

    Example:
        >>> source = open_source("videos")
        >>> sampler = EpochSampler(source.shard_sizes, batch=32, seed=0)
        >>> with TrainLoader(source, ViewDraws(ViewSpec(), seed=0), sampler) as loader:
        ...     for batch in loader:
        ...         ...  # loader.state is where to resume after this batch
    """

    def __init__(
        self,
        source: Source,
        draws: ViewDraws,
        sampler: EpochSampler,
        *,
        options: DecodeOptions | None = None,
        quarantine: Quarantine | None = None,
        device: torch.device | str = "cpu",
        text: TextCollator | None = None,
    ):
        options, device = options or DecodeOptions(), torch.device(device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device {device}: torch sees no GPU")
        require(options.decoder, device.type)
        self.quarantine = quarantine or Quarantine()
        self.sampler, self.state = sampler, sampler.start
        self.prefetch, self._device = max(1, options.prefetch), device
        self.plan = DecodePlan(
            source, draws, sampler, options, threads=options.threads or default_threads(),
            most_threads=options.threads or most_threads(),
            in_a_row=self.quarantine.policy.in_a_row, text=None if text is None else text.choice,
        )  # fmt: skip
        # One batch of the ``prefetch`` is the one being assembled.
        slots = max((self.prefetch - 1) * sampler.local, self.plan.most_threads)
        if sampler.slot_frames is not None:
            slots += -slots % sampler.local
        self._prefetcher = Prefetcher(self.plan, slots, self.quarantine, device, text)
        # Also for a loader that is dropped without being closed: its process would remain otherwise.
        self._close = weakref.finalize(self, self._prefetcher.close)
        self._last = time.perf_counter()

    @property
    def closed(self) -> bool:
        """Return whether :meth:`close` was called."""
        return self._prefetcher.closed

    @property
    def clips_shown(self) -> int:
        """Return the clips handed out since the order began, by all processes together."""
        return self.sampler.coverage(self.state).clips

    @property
    def threads(self) -> int:
        """Return the current number of decoding threads."""
        return self._prefetcher.process.threads

    @property
    def clip_bytes(self) -> int:
        """Return the bytes of one uint8 clip."""
        T, H, W, C = self.plan.clip_shape
        return T * H * W * C

    def ram_bound(self) -> int:
        """Return the most bytes of clips that can exist at once: the ring, the batch being assembled, the one handed
        out, the one before it that the caller may still hold, and the cache. Not included are the decoding process
        itself (:meth:`worker_bytes`), the files and frames that its threads work on, and the ``prefetch`` batches of
        files that wait for a GPU decoder.
        """
        ring, (_, H, W, C) = self._prefetcher.process.ring, self.plan.clip_shape
        batch = sum(self.plan.slot_frames) * H * W * C
        return (0 if ring is None else ring.bytes) + 3 * batch + self.plan.options.cache_bytes

    @property
    def description(self) -> str:
        """Return a description of threads and memory, for the log."""
        return (
            f"{self.threads} decoding threads, at most {size(self.ram_bound())} of clips in memory beside the "
            "decoding process (decode_mb in metrics.jsonl)"
        )

    def worker_bytes(self) -> int:
        """Return the bytes of memory that the decoding process holds now, without the ring."""
        return self._prefetcher.process.private_bytes()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self.closed:
            raise ValueError("the loader is closed")
        if self._prefetcher.forked:
            raise RuntimeError("a loader cannot be used in a process that was forked from its own: make one there")
        asked, prefetcher = time.perf_counter(), self._prefetcher
        made = prefetcher.ready.get()
        if made.error is not None:
            prefetcher.ready.put(made)  # for later calls
            raise made.error
        assert made.batch is not None
        assert made.after is not None
        self.state = made.after
        now = time.perf_counter()
        prefetcher.handed_out(waited=now - asked > 0.05 * (now - self._last))
        self._last = now
        if made.copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(made.copied)
            made.batch.record_stream(current)
        return made.batch

    def close(self) -> None:
        """End the decoding process. Later batches are refused."""
        self._close()

    def __enter__(self) -> "TrainLoader":
        return self

    def __exit__(self, *exc) -> None:
        self.close()
