"""The process that decodes: reads, checks, decodes and cuts clips into a ring, in threads, without importing torch.

:class:`fastvid.data.loader.worker_handle.DecodeWorker` starts it and talks to it over one connection. It is told how
many clips have been taken, never gets further ahead than the ring has slots, and ends when its parent does.
"""

import contextlib
import os
import pickle
import signal
import threading
from multiprocessing.connection import Connection

import numpy as np

from fastvid.data.loader.autotune import Autotune
from fastvid.data.loader.frame_cache import FrameCache
from fastvid.data.loader.messages import Decoded, Failed, Taken
from fastvid.data.loader.order import LoaderState
from fastvid.data.loader.plan import DecodePlan
from fastvid.data.loader.ring import Ring
from fastvid.data.source import Sample
from fastvid.video import DecodeError, VideoMetadata, View, decode_view


class Worker:
    """The threads of this process.

    Args:
        plan: what to decode.
        done: turns that need not be decoded again.
        taken: turns whose slots are free again.
        slots: turns that may be ahead of those that were taken.
        ring: where clips go; None where the parent decodes.
        connection: to the parent.
    """

    def __init__(
        self, plan: DecodePlan, done: set[int], taken: int, slots: int, ring: Ring | None, connection: Connection
    ):
        self.plan, self.ring, self.slots = plan, ring, slots
        self._connection, self._done, self._taken = connection, done, taken
        self._next, self._busy = taken, 0
        self._cache = FrameCache(plan.options.cache_bytes, plan.draws.spec)
        self._prefetched: dict[int, int] = {}  # window of each part that was announced last
        self._prefetching = threading.Lock()
        self._changed, self._sending = threading.Condition(), threading.Lock()
        self._autotune = Autotune(plan.threads, plan.most_threads)
        for number in range(plan.most_threads):
            threading.Thread(target=self._work, args=(number,), daemon=True, name=f"decode-{number}").start()

    def told(self, told: Taken) -> None:
        """Handle a message from the parent: it has copied clips out of the ring, or handed out a batch."""
        with self._changed:
            if told.waited is not None:
                full = self._next >= self._taken + self.slots
                self._autotune.batch(waited=told.waited, idle=full and not self._busy)
            self._taken = max(self._taken, told.turns)
            self._changed.notify_all()

    def _work(self, number: int) -> None:
        try:
            while True:
                made = self._decode_turn(self._turn(number))
                made.threads = self._autotune.threads
                self._send(made)
                with self._changed:
                    self._busy -= 1
        except (BrokenPipeError, ConnectionResetError):
            return  # the parent is gone, and the main thread is about to find out
        except BaseException as error:  # whatever it is: a thread that ended without a word would be waited for
            self._send(Failed.from_exception(error))

    def _turn(self, number: int) -> int:
        """Wait for a turn that is to be decoded and have a free slot."""
        with self._changed:
            while True:
                if number < self._autotune.threads and self._next < self._taken + self.slots:
                    turn = self._next
                    self._next += 1
                    if turn not in self._done:
                        self._busy += 1
                        return turn
                    self._done.remove(turn)
                else:
                    self._changed.wait()

    def _send(self, message: Decoded | Failed) -> None:
        with self._sending:
            self._connection.send(message)

    def _decode_turn(self, turn: int) -> Decoded:
        """Decode the turn's sample, or the first good one after it, into the turn's slot."""
        plan, out = self.plan, Decoded(turn)
        position, frames = plan.sampler.position(turn), plan.sampler.frames(turn)
        if position is None:
            out.empty = True
            return out
        self._prefetch(position)
        while len(out.bad) < min(plan.in_a_row, plan.most_tries):
            index, epoch = plan.sampler.sample(position)
            try:  # bad ones too: whether a view can be cut must not depend on what was met before
                out.conversations = plan.conversations(index, epoch)
                sample = plan.source.samples[index]
                if sample.kind == "text" and out.conversations and not plan.options.by_device:
                    self._slot(turn)[:frames] = 0
                    out.tell(sample)
                    return out
                if plan.options.by_device:
                    out.file = plan.read(index, epoch, frames)
                    return out
                sample, view, info = self._decode(index, epoch, frames, self._slot(turn)[:frames])
                out.latents = plan.latents(index, view, info)
                out.tell(sample, view, info)
                return out
            except DecodeError as error:
                out.bad.append((plan.source.samples[index].key, error))
                position = plan.sampler.advance(position, 1)
        return out

    def _prefetch(self, position: LoaderState) -> None:
        """Tell the source when a position is the first of a later window than before."""
        window, part = self.plan.sampler.window_of(position), self.plan.sampler.part_of(position)
        with self._prefetching:
            if window > self._prefetched.get(part, -1):
                self._prefetched[part] = window
                self.plan.source.prefetch(*self.plan.sampler.shards_at(position))

    def _slot(self, turn: int) -> np.ndarray:
        assert self.ring is not None
        return self.ring.slot(turn)

    def _decode(
        self, index: int, epoch: int, frames: int | None, out: np.ndarray
    ) -> tuple[Sample, View, VideoMetadata]:
        cached = self._cache.get(index)
        if cached is not None:
            sample = self.plan.source.samples[index]
            view = self.plan.view(sample, epoch, cached.info, frames)
            cached.cut(view, out)
            return sample, view, cached.info
        file, decoder = self.plan.read(index, epoch, frames), self.plan.options.decoder
        if self._cache.reserve(file.info, file.view):
            # A video may be damaged where this view does not look.
            with contextlib.suppress(DecodeError):
                self._cache.put(index, file.sample.key, file.data, file.info, decoder).cut(file.view, out)
                return file.sample, file.view, file.info
        decode_view(file.data, file.view, info=file.info, out=out, decoder=decoder)
        return file.sample, file.view, file.info


def main(connection_descriptor: int, ring_descriptor: int) -> None:
    """Serve one parent until it goes away; -1 stands for no ring. Only the threads send, so that the parent's messages
    are taken whatever becomes of ours."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to stop, and may want batches until then
    connection = Connection(connection_descriptor)
    try:
        pickled = connection.recv_bytes()
    except (EOFError, OSError):
        os._exit(0)
    try:
        plan, done, taken, slots = pickle.loads(pickled)
        ring = plan.ring(slots, ring_descriptor) if ring_descriptor >= 0 else None
        worker = Worker(plan, done, taken, slots, ring, connection)
    except (AttributeError, ModuleNotFoundError) as error:
        connection.send(
            Failed.from_exception(ImportError(f"the decoding process cannot make the source ({error}): {_IMPORTABLE}"))
        )
        os._exit(1)
    except BaseException as error:
        connection.send(Failed.from_exception(error))
        os._exit(1)
    try:
        while True:
            worker.told(connection.recv())
    except (EOFError, OSError):  # the parent has closed its end, or is gone
        os._exit(0)  # threads may be deep inside a file


_IMPORTABLE = "its class must be in a module that can be imported, not in the script or notebook that is run"
