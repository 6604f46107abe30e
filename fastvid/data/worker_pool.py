"""Runs a function on many things side by side, and hands the results on in order."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # tasks under way per process
_AHEAD_BYTES = 512 << 20  # of all of them together, unless one alone is larger


def in_order(
    work: Callable[[Item], Result],
    tasks: Iterable[Item],
    jobs: int,
    died: Callable[[Item], Result],
    size: Callable[[Item], int] = lambda task: 0,
) -> Generator[tuple[Item, Result], None, None]:
    """Run ``work`` on each task in ``jobs`` new processes.

    Args:
        work: can be pickled; its exceptions are raised here.
        tasks: taken as they are needed.
        jobs: processes; 0 works in this one, where nothing is in the way of a debugger, or of a crash.
        died: the result for a task at which the process died (FFmpeg is a large surface); the others are not affected.
        size: bytes that a task keeps in memory.

    Yields:
        Each task with its result, in the order of the tasks.
    """
    if jobs == 0:
        for task in tasks:
            yield task, work(task)
        return
    run = _Run(work, jobs, died)
    held = 0
    try:
        for task in tasks:
            run.submit(task)
            held += size(task)
            while len(run.waiting) > _AHEAD * jobs or (held > _AHEAD_BYTES and len(run.waiting) > 1):
                done, result = run.next()
                held -= size(done)
                yield done, result
        while run.waiting:
            yield run.next()
    finally:
        run.close()


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


class _Run(Generic[Item, Result]):
    def __init__(self, work: Callable[[Item], Result], jobs: int, died: Callable[[Item], Result]):
        self.work, self.jobs, self.died = work, jobs, died
        self.waiting: deque[tuple[Item, Future[Result]]] = deque()
        self.pool = _pool(jobs)

        self.single: ProcessPoolExecutor | None = None

    def submit(self, task: Item) -> None:
        try:
            future = self.pool.submit(self.work, task)
        except BrokenProcessPool:
            self.pool.shutdown()
            self.pool = _pool(self.jobs)
            future = self.pool.submit(self.work, task)
        self.waiting.append((task, future))

    def next(self) -> tuple[Item, Result]:
        task, future = self.waiting.popleft()
        try:
            return task, future.result()
        except BrokenProcessPool:  # any of those under way can be to blame: each is tried alone
            return task, self._alone(task)

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)
        if self.single is not None:
            self.single.shutdown()

    def _alone(self, task: Item) -> Result:
        self.single = self.single or _pool(1)
        try:
            return self.single.submit(self.work, task).result()
        except BrokenProcessPool:
            self.single.shutdown()
            self.single = None
            return self.died(task)


def _pool(jobs: int) -> ProcessPoolExecutor:
    # "spawn": forking a process that has started threads is not safe.
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this process when the parent dies; it would wait for tasks forever. An interrupt from the keyboard is for
    the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def wait() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def default_threads() -> int:
    """Return half of the processors that this process may use, at least one; the rest is for training. Processes
    that torchrun started on the same machine share them.
    """
    return max(1, most_threads() // 2)


def most_threads() -> int:
    """Return the number of processors that this process may use. Processes that torchrun started on the same machine
    share them.
    """
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
