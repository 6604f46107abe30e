"""Watch over processes that hold up the others: each says where it is, and one that waits too long looks at all."""

import faulthandler
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch.distributed as dist

from fastvid.train.distributed import World, environment_number

log = logging.getLogger(__name__)

_MOST_NAMED = 8
_LAST_WORDS_S = 20.0  # for the log and the status, on a file system that may be what hangs


@dataclass(frozen=True)
class Place:
    """The place of a process in a run.

    Attributes:
        number: number of places before this one; all processes go through the same places in the same order.
        what: description, such as ``"step 12: a batch is loaded"``.
        long: whether this place, such as the main process's evaluation, may take any time while its process lives.
        beats: times the process has said so; it goes on saying it while its main thread is busy or stuck.
        who: host and process id.
    """

    number: int
    what: str
    long: bool
    beats: int
    who: str


class Watch:
    """Ends a run whose processes wait for one that does not come, and names that one.

    A thread of each process writes its place to the store ten times in ``limit_s``. Where the place of its own process
    has not changed for ``limit_s``, it reads the places of all, twice: the process that others wait for is the one at
    the lowest place, or one that has stopped writing. Nothing is written or read by the training loop itself.

    Args:
        store: a store that all processes reach.
        world: this process among its peers.
        limit_s: seconds to wait.
        end: called with the sentence that names the process, and whether this process is the one; ends this process.
        clock: seconds that pass.
    """

    def __init__(
        self,
        store: dist.Store,
        world: World,
        limit_s: float,
        *,
        end: Callable[[str, bool], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._store, self._world, self._limit, self._end, self._clock = store, world, limit_s, end, clock
        self.interval_s = limit_s / 10
        self._who = f"host {socket.gethostname()}, process id {os.getpid()}"
        self._beats = 0
        self._place, self._since = (0, "the start", True), clock()
        self._suspected: list[Place] | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.beat()

    def start(self) -> None:
        """Begin to watch. All processes have made their watches before."""
        self._thread.start()

    def at(self, what: str, *, long: bool = False) -> None:
        """Say where the main thread is from now on."""
        self._place, self._since = (self._place[0] + 1, what, long), self._clock()

    def close(self) -> None:
        """Stop watching, before this process leaves the group."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def beat(self) -> None:
        """Write this process's place to the store."""
        self._beats += 1
        place = Place(*self._place, self._beats, self._who)
        self._store.set(str(self._world.rank), json.dumps(asdict(place)))

    def look(self) -> None:
        """Look where the others are, if this process has waited for too long. The second look in a row tells."""
        if self._clock() - self._since < self._limit:
            self._suspected = None
            return
        places = self._places()
        if self._suspected is None:
            self._suspected = places
            return
        named = held_up_by(self._suspected, places)
        self._suspected = None
        if named is None:
            self._since = self._clock()  # it is an evaluation, or another long task, and lives: wait as long again
            return
        minutes = (self._clock() - self._since) / 60
        self._end(sentence_about(named, places, minutes), self._world.rank in named)

    def _places(self) -> list[Place]:
        found = self._store.multi_get([str(rank) for rank in range(self._world.size)])
        return [Place(**json.loads(value)) for value in found]

    def _run(self) -> None:
        try:
            # Between two looks every process that lives has written.
            while not self._closed.wait(self.interval_s if self._suspected is None else 3 * self.interval_s):
                self.beat()
                self.look()
        except RuntimeError as error:  # the store is the launcher's, or process 0's: what is left to end ends with it
            log.warning("no watch is kept over processes that hang any more: the launcher's store is gone (%s)", error)


def held_up_by(before: Sequence[Place], now: Sequence[Place]) -> list[int] | None:
    """Return the ranks that the others wait for, given the places of all at two times.

    These are the processes that have stopped writing, or else those at the lowest place. None where that is one at
    which the others are to wait; empty where all are at the same place.
    """
    silent = [rank for rank, (old, new) in enumerate(zip(before, now, strict=True)) if old.beats == new.beats]
    if silent:
        return silent
    lowest = min(place.number for place in now)
    behind = [rank for rank, place in enumerate(now) if place.number == lowest]
    if any(now[rank].long for rank in behind):
        return None
    return [] if len(behind) == len(now) else behind


def sentence_about(ranks: Sequence[int], places: Sequence[Place], minutes: float) -> str:
    """Return the sentence that names the processes that hold up the others."""
    if not ranks:
        return (
            f"all {len(places)} processes have been at the same place for {minutes:.3g} minutes ({places[0].what}): "
            "look at the network between the machines, and at the storage"
        )
    shown = [f"process {rank} ({places[rank].who}), which is at {places[rank].what}" for rank in ranks[:_MOST_NAMED]]
    more = f", and {len(ranks) - len(shown)} more" if len(ranks) > len(shown) else ""
    others = len(places) - len(ranks)
    return (
        f"{others} of {len(places)} processes have waited for {minutes:.3g} minutes for {'; '.join(shown)}{more}: the "
        "run ends here, and goes on from its last checkpoint with --resume"
    )


def launcher_store() -> dist.Store:
    """Connect to the store of the launcher, in which each start of the same job has names of its own."""
    host, port = os.environ["MASTER_ADDR"], environment_number("MASTER_PORT")
    store = dist.TCPStore(host, port, is_master=False, wait_for_workers=False)
    return dist.PrefixStore(f"fastvid/places/{environment_number('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def end_process(record: Callable[[str], None]) -> Callable[[str, bool], None]:
    """Return what ends this process with a sentence, although its main thread waits for others.

    Args:
        record: writes the sentence to the run's files.
    """

    def end(sentence: str, named: bool) -> None:
        print(sentence, file=sys.stderr, flush=True)
        if named:
            print("this is the process that is waited for; its threads:", file=sys.stderr, flush=True)
            faulthandler.dump_traceback(all_threads=True)
        last = threading.Timer(_LAST_WORDS_S, os._exit, (1,))
        last.daemon = True
        last.start()
        try:
            record(sentence)
        finally:
            os._exit(1)

    return end
