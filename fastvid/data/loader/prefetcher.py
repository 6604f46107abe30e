"""Batches put together ahead of their use: clips out of the ring, or decoded on a device, by a thread."""

import contextlib
import os
import queue
import threading
from dataclasses import dataclass

import torch

from fastvid.data.bad_samples import Quarantine
from fastvid.data.loader.batch import Batch, stacked_latents
from fastvid.data.loader.device_decoder import DeviceDecoder
from fastvid.data.loader.messages import Decoded
from fastvid.data.loader.order import LoaderState
from fastvid.data.loader.plan import DecodePlan
from fastvid.data.loader.worker_handle import DecodeWorker
from fastvid.data.text.rows import ClipText, TextCollator
from fastvid.random import sample_id


@dataclass
class Made:
    """A finished batch, or the error instead of it.

    Attributes:
        batch: the batch.
        after: where the next one begins.
        copied: of its tensors to the GPU; None without one.
        error: what there is instead of a batch.
    """

    batch: Batch | None = None
    after: LoaderState | None = None
    copied: torch.cuda.Event | None = None
    error: BaseException | None = None


class Prefetcher:
    """A thread that assembles one batch ahead of the one handed out, from the clips of the decoding process.

    Args:
        plan: what is decoded.
        slots: clips decoded ahead of the batch being put together.
        quarantine: where bad samples go.
        device: where tensors are put.
        text: makes tensors of what is written about the clips; None where no text is read.

    Attributes:
        ready: finished batches, in order; an error is the last.
        process: which decodes.
    """

    def __init__(
        self,
        plan: DecodePlan,
        slots: int,
        quarantine: Quarantine,
        device: torch.device,
        text: TextCollator | None = None,
    ):
        self._text = text
        self._plan, self._quarantine, self._device = plan, quarantine, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._device_decoder = DeviceDecoder(plan, quarantine, device)
        self.ready: queue.Queue[Made] = queue.Queue()
        self._room = threading.Semaphore(1)  # batches that may be in the making beside the one handed out
        self._closing, self._pid = threading.Lock(), os.getpid()
        self.closed = False
        self.process = DecodeWorker(plan, slots)
        self._thread = threading.Thread(target=self._copy_batches, daemon=True, name="clips")
        self._thread.start()

    @property
    def forked(self) -> bool:
        """Return whether this process is a fork of the one that made this object."""
        return os.getpid() != self._pid

    def handed_out(self, waited: bool) -> None:
        """Record that the latest batch is in use, so that another may be made. ``waited``: it was not ready when
        requested.
        """
        self._room.release()
        self.process.handed_out(waited)

    def close(self) -> None:
        """End the decoding process and the thread; a second call does nothing."""
        if self.forked:
            return
        with self._closing:
            if self.closed:
                return
            self.closed = True
            self.process.stop()
            self._room.release()
            self._thread.join()
            self.process.close()
            with contextlib.suppress(queue.Empty):
                while True:  # batches that nobody will take
                    self.ready.get_nowait()
            self.ready.put(Made(error=ValueError("the loader is closed")))  # for whoever is waiting

    def _copy_batches(self) -> None:
        sampler = self._plan.sampler
        first, state = 0, sampler.start
        try:
            while self._room.acquire() and not self.closed:
                with torch.cuda.stream(self._stream):  # without a GPU there is none, and this does nothing
                    made = self._on_device(self._copy_batch(first, sampler.windows_of_batch(state)))
                first += sampler.local
                state = sampler.after(state)
                made.after = state
                self.ready.put(made)
        except BaseException as error:
            self.ready.put(Made(error=error))

    def _copy_batch(self, first: int, windows: tuple[int, int]) -> Batch:
        sampler, pinned = self._plan.sampler, self._stream is not None
        local, (T, *image) = sampler.clips(first), self._plan.clip_shape
        frames = sampler.frames(first)
        shape = (local, T if frames is None else frames, *image)
        clips = None
        if not self._plan.options.by_device:
            clips = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        made: list[Decoded] = []
        for turn in range(first, first + sampler.local):
            one = self.process.decoded(turn)
            if turn >= first + local:
                self.process.forget(turn)
                continue
            made.append(one)
            if one.empty:
                self.process.forget(turn)
                if clips is not None:
                    clips[turn - first] = 0
                continue
            self._note_bad(one)
            if clips is not None:
                self.process.take(turn, clips[turn - first].numpy())
            else:
                self.process.forget(turn)
        if clips is None:
            clips = self._device_decoder.clips(made)
        for one in made:
            if not one.empty:
                self._quarantine.count_good(one.key)
        written = []
        if self._text is not None:
            written = [ClipText(one.conversations, one.frames, one.whole, one.kind) for one in made]
        extra = {} if self._text is None else self._text(written, shape[1])
        return Batch(
            text=written,
            extra={**extra, **stacked_latents([one.latents for one in made])},
            clips=clips,
            keys=[one.key for one in made],
            ids=torch.tensor([sample_id(one.key) for one in made], dtype=torch.int64, pin_memory=pinned),
            view_hashes=torch.tensor([one.view_hash for one in made], dtype=torch.int64),
            labels=[one.label for one in made],
            substitutes=[bool(one.bad) for one in made],
            repeats=[one.repeats for one in made],
            windows=windows,
        )

    def _note_bad(self, made: Decoded) -> None:
        self._quarantine.add_row(made.bad)
        if not made.key and made.file is None:
            self._quarantine.give_up(made.bad, len(self._plan.source.samples))

    def _on_device(self, batch: Batch) -> Made:
        if self._stream is None:
            return Made(batch)
        assert batch.clips is not None
        batch.clips = batch.clips.to(self._device, non_blocking=True)
        batch.ids = batch.ids.to(self._device, non_blocking=True)
        batch.extra = {n: t.pin_memory().to(self._device, non_blocking=True) for n, t in batch.extra.items()}
        return Made(batch, copied=self._stream.record_event())
