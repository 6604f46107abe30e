"""The process that decodes: reads, checks, decodes and cuts clips into a ring, in threads, without importing torch.

:class:`fastvid.data.decode_process.DecodeProcess` starts it and talks to it over one connection. It is told how many
clips have been taken, never gets further ahead than the ring has slots, and ends when its parent does.
"""

import os
import signal
import threading
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np

from fastvid.data.frame_cache import FrameCache
from fastvid.data.order import EpochOrder, LoaderState
from fastvid.data.ring import Ring
from fastvid.data.source import Source, read_video
from fastvid.data.throttle import Throttle
from fastvid.video import DecodeError, Limits, View, ViewSpec, cut_view, decode, decode_view


@dataclass(frozen=True)
class Task:
    """What to decode.

    Clip number ``turn`` of this rank is position ``start + turn // local * batch + rank + turn % local * world`` of the
    epochs' orders laid end to end, where ``local = batch // world``.

    Attributes:
        source: where videos come from.
        spec: how views are drawn.
        batch: clips per global batch.
        world: processes that share it.
        rank: this process's place among them.
        seed: of the order.
        view_seed: of the views.
        views: views drawn of each video, over and over; None draws a new one in every epoch.
        window: shards mixed by the shuffle.
        start: where turn 0's global batch begins.
        limits: what is refused.
        cache_bytes: of decoded videos kept.
        in_a_row: bad samples in a row after which a turn is given up.
        threads: threads at the beginning.
        most_threads: as many as there may become.
    """

    source: Source
    spec: ViewSpec
    batch: int
    world: int
    rank: int
    seed: int
    view_seed: int
    views: int | None
    window: int
    start: LoaderState
    limits: Limits
    cache_bytes: int
    in_a_row: int
    threads: int
    most_threads: int

    @property
    def local(self) -> int:
        """Clips of a global batch that are this rank's."""
        return self.batch // self.world

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Of one clip, uint8."""
        return (self.spec.frames, self.spec.size, self.spec.size, 3)

    def position(self, turn: int) -> LoaderState:
        """Where a turn's sample stands in the order."""
        batches, slot = divmod(turn, self.local)
        return self.start.advance(batches * self.batch + self.rank + slot * self.world, len(self.source.samples))


@dataclass
class Decoded:
    """A finished turn.

    Attributes:
        turn: its number.
        key: of the sample whose clip is in the ring; empty when the turn was given up.
        label: its class.
        view_hash: :attr:`fastvid.video.View.hash`.
        repeats: whether frames repeat because the video is too short.
        bad: samples that came before it in the order and could not be used, and why: (key, error).
    """

    turn: int
    key: str = ""
    label: str | None = None
    view_hash: int = 0
    repeats: bool = False
    bad: list[tuple[str, DecodeError]] = field(default_factory=list)


@dataclass
class Failed:
    """An error that is not a sample's: it ends the run.

    Attributes:
        error: the exception.
        trace: its traceback.
    """

    error: Exception
    trace: str


@dataclass
class Taken:
    """What the parent tells.

    Attributes:
        turns: all turns before this one have been copied out of the ring.
        waited: of a batch that was handed out, whether it had to be waited for; None when none was.
    """

    turns: int
    waited: bool | None = None


@dataclass
class Threads:
    """A changed number of decoding threads.

    Attributes:
        threads: how many there are now.
    """

    threads: int


class Orders:
    """Which sample stands at a position, and which shards will be read next."""

    def __init__(self, task: Task):
        self._task, self._orders = task, dict[int, EpochOrder]()
        self._staged: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def sample_at(self, position: LoaderState) -> int:
        """The sample's index in the source."""
        with self._lock:
            order = self._order(position.epoch)
        return order[position.sample]

    def stage(self, position: LoaderState) -> None:
        """Tells the source about a position that is about to be read."""
        with self._lock:
            order = self._order(position.epoch)
            window = order.window_of(position.sample)
            if self._staged is not None and (position.epoch, window) <= self._staged:
                return
            self._staged = (position.epoch, window)
            last = window + 1 == order.windows
            then = self._order(position.epoch + 1).shards_of(0) if last else order.shards_of(window + 1)
            self._task.source.stage(order.shards_of(window), then)

    def _order(self, epoch: int) -> EpochOrder:
        if epoch not in self._orders:
            task = self._task
            # Threads work around an epoch's end, never further apart than that.
            self._orders = {e: o for e, o in self._orders.items() if abs(e - epoch) <= 1}
            self._orders[epoch] = EpochOrder(task.seed, epoch, task.source.shard_sizes, task.window)
        return self._orders[epoch]


class Helper:
    """The threads of this process.

    Args:
        task: what to decode.
        done: turns that need not be decoded again.
        taken: turns whose slots are free again.
        ring: where clips go.
        connection: to the parent.
    """

    def __init__(self, task: Task, done: set[int], taken: int, ring: Ring, connection: Connection):
        self.task, self.ring = task, ring
        self._connection, self._done, self._taken = connection, done, taken
        self._next, self._busy = taken, 0
        self._orders, self._cache = Orders(task), FrameCache(task.cache_bytes)
        self._changed, self._sending = threading.Condition(), threading.Lock()
        self._throttle = Throttle(task.threads, task.most_threads)
        for number in range(task.most_threads):
            threading.Thread(target=self._work, args=(number,), daemon=True, name=f"decode-{number}").start()

    def told(self, told: "Taken") -> None:
        """The parent has copied clips out of the ring, or handed out a batch."""
        with self._changed:
            if told.waited is not None:
                full = self._next >= self._taken + self.ring.slots
                if self._throttle.batch(waited=told.waited, idle=full and not self._busy):
                    self._send(Threads(self._throttle.threads))
            self._taken = max(self._taken, told.turns)
            self._changed.notify_all()

    def _work(self, number: int) -> None:
        try:
            while True:
                turn = self._turn(number)
                self._send(self._decode_turn(turn))
                with self._changed:
                    self._busy -= 1
        except Exception as error:
            self._send(Failed(error, traceback.format_exc()))

    def _turn(self, number: int) -> int:
        """Waits for a turn that is to be decoded and has a free slot."""
        with self._changed:
            while True:
                if number < self._throttle.threads and self._next < self._taken + self.ring.slots:
                    turn = self._next
                    self._next += 1
                    if turn not in self._done:
                        self._busy += 1
                        return turn
                    self._done.remove(turn)
                else:
                    self._changed.wait()

    def _send(self, message: "Decoded | Failed | Threads") -> None:
        with self._sending:
            self._connection.send(message)

    def _decode_turn(self, turn: int) -> Decoded:
        """Decodes the turn's sample, or the first good one after it, into the turn's slot."""
        task, out = self.task, Decoded(turn)
        position = task.position(turn)
        self._orders.stage(position)
        samples = len(task.source.samples)
        while len(out.bad) < min(task.in_a_row, samples):
            index = self._orders.sample_at(position)
            sample = task.source.samples[index]
            try:  # bad ones too: whether a view can be cut must not depend on what was met before
                view = self._decode(index, position.epoch, self.ring.slot(turn))
            except DecodeError as error:
                out.bad.append((sample.key, error))
                position = position.advance(1, samples)
            else:
                out.key, out.label = sample.key, sample.label
                out.view_hash, out.repeats = view.hash, view.repeats_frames
                break
        return out

    def _decode(self, index: int, epoch: int, out: np.ndarray) -> View:
        task, key = self.task, self.task.source.samples[index].key
        draw = epoch if task.views is None else epoch % task.views
        cached = self._cache.get(index)
        if cached is not None:
            info, frames = cached
            view = task.spec.draw(key, task.view_seed, draw, info)
            cut_view(frames, view, out)
            return view
        data, info = read_video(task.source, index, task.limits)
        view = task.spec.draw(key, task.view_seed, draw, info)
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


def main(connection_descriptor: int, ring_descriptor: int) -> None:
    """Serves one parent until it goes away."""
    connection = Connection(connection_descriptor)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to stop, and may want batches until then
    try:
        task, done, taken, slots = connection.recv()
        helper = Helper(task, done, taken, Ring(slots, task.clip_shape, ring_descriptor), connection)
        while True:
            helper.told(connection.recv())
    except (EOFError, OSError):
        pass  # the parent has closed its end, or is gone
    except Exception as error:
        connection.send(Failed(error, traceback.format_exc()))
    os._exit(0)  # threads may be deep inside a file
