"""Checks over several processes: one that kills its process, or hangs, costs that one check."""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Outcome(Generic[Item]):
    """The outcome of one check.

    Attributes:
        item: the check.
        seconds: it took.
        error: what was wrong, or None.
        lost: its process can run no more checks.
    """

    item: Item
    seconds: float
    error: str | None
    lost: bool = False


class _Worker:
    """A process that runs one check after another."""

    def __init__(self, check: Callable[[Any], None], healthy: Callable[[], None]):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(check, healthy, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.item: Any = None
        self.began = time.monotonic()
        self.ready = False  # it has imported what it needs

    def give(self, item: Any) -> None:
        self.item, self.began = item, time.monotonic()
        self.connection.send(item)

    def end(self) -> None:
        self.process.kill()
        self.connection.close()
        self.process.join(2)


def _serve(check: Callable[[Any], None], healthy: Callable[[], None], connection: Connection) -> None:
    connection.send(None)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        error = None
        try:
            check(item)
            healthy()  # a kernel may fail after the call that launched it
        except Exception as caught:
            traceback.print_exc()
            error = f"{type(caught).__name__}: {caught}"
        lost = error is not None and _lost(healthy)
        connection.send((error, lost))
        if lost:  # what follows would fail for nothing
            return


def _lost(healthy: Callable[[], None]) -> bool:
    try:
        healthy()
    except Exception:
        return True
    return False


def run_checks(
    check: Callable[[Item], None],
    items: Sequence[Item],
    *,
    processes: int,
    limit: float,
    healthy: Callable[[], None],
    begun: Callable[[Item], None] = lambda item: None,
) -> Iterator[Outcome[Item]]:
    """Run ``check(item)`` for all items, and yield outcomes as they come.

    Args:
        check: a function of a module, so that other processes find it.
        items: picklable, begun in this order.
        processes: at once; 0 runs all in this process.
        limit: seconds of one check, after which its process is killed.
        healthy: raises where the process can run no more checks; called after each.
        begun: called when an item begins.
    """
    if not processes:
        yield from _in_this_process(check, items, healthy, begun)
        return
    waiting = list(reversed(items))
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < processes:
                workers.append(_Worker(check, healthy))
                _next(workers[-1], waiting, begun)
            wait([worker.connection for worker in workers], timeout=1)
            for worker in list(workers):
                outcome = _outcome(worker, limit)
                if outcome is None:
                    continue
                yield outcome
                if not waiting or outcome.lost:
                    workers.remove(worker)
                    worker.end()
                else:
                    _next(worker, waiting, begun)
    finally:
        for worker in workers:
            worker.end()


def _next(worker: _Worker, waiting: list, begun: Callable[[Any], None]) -> None:
    item = waiting.pop()
    begun(item)
    worker.give(item)


def _outcome(worker: _Worker, limit: float) -> Outcome | None:
    seconds = time.monotonic() - worker.began
    if worker.connection.poll():
        try:
            message = worker.connection.recv()
            if message is None:
                worker.ready, worker.began = True, time.monotonic()
                return None
            return Outcome(worker.item, seconds, *message)
        except (EOFError, ConnectionError):
            worker.process.join(2)
            return Outcome(worker.item, seconds, f"the process died with exit code {worker.process.exitcode}", True)
    if worker.ready and seconds > limit:
        return Outcome(worker.item, seconds, f"not over after {limit:.0f} s: killed", True)
    return None


def _in_this_process(check, items, healthy, begun) -> Iterator[Outcome]:
    for item in items:
        begun(item)
        began, error = time.monotonic(), None
        try:
            check(item)
            healthy()
        except Exception as caught:
            traceback.print_exc()
            error = f"{type(caught).__name__}: {caught}"
        yield Outcome(item, time.monotonic() - began, error)
