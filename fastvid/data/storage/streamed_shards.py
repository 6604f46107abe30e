"""Shards behind a URL: fetched as their windows come, read from a disk cache with a hard budget."""

import io
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import NamedTuple

from fastvid.data.shards.dataset_json import NAME, Dataset
from fastvid.data.shards.index import ShardIndex, index_name
from fastvid.data.shards.reader import check_index
from fastvid.data.storage.disk_cache import DiskCache, InUse
from fastvid.data.storage.remote import NotThere, Remote, StreamError
from fastvid.files import sha256_of

log = logging.getLogger(__name__)

_POLL = 0.05
_MOST_HELD = 256  # of the files a process may have open


class _File(NamedTuple):
    shard: int
    name: str
    size: int
    sha256: str


class StreamedShards:
    """Shards behind a URL, by way of a disk cache. See docs/streaming.md.

    Any thread may read. One thread in the background fetches what :meth:`prefetch` names. A pickled copy, in another
    process, uses the same cache.

    Args:
        remote: the folder that holds the shards.
        dataset: its ``dataset.json``.
        cache: where the shards are kept.
        linger: seconds for which the window that was read last is kept after the last read from it: batches are made
            ahead, so reads from two windows overlap.
        patience: seconds to wait for room while other processes read everything in the cache.
    """

    def __init__(
        self, remote: Remote, dataset: Dataset, cache: DiskCache, *, linger: float = 5.0, patience: float = 300.0
    ):
        self.__setstate__((remote, dataset, cache, linger, patience))

    def __getstate__(self):  # neither locks nor threads nor open files
        return self._remote, self._dataset, self._cache, self._linger, self._patience

    def __setstate__(self, state):
        self._remote, self._dataset, self._cache, self._linger, self._patience = state
        self._facts, self._folder = self._dataset.shards, self._dataset.hash[:16]
        self.names = [fact.name for fact in self._facts]
        self._lock = threading.Lock()
        self._current: list[int] = []
        self._upcoming: list[int] = []
        self._stamp: int | None = None
        # Open files cannot be deleted: those of the current window, and of the one before while it is still read.
        self._held: dict[int, io.FileIO] = {}
        self._past: dict[int, io.FileIO] = {}
        self._past_read = 0.0
        self._todo: deque[int] = deque()
        self._thread: threading.Thread | None = None
        self._fetched: set[str] = set()
        self._warned = False

    def index(self, shard: int) -> ShardIndex:
        """Return the index of a shard, fetched if it is not in the cache.

        Raises:
            ValueError: it is damaged on the server.
            StreamError: it cannot be had.
        """
        file = self._index(shard)
        try:
            return self._read_index(file)
        except ValueError:  # it changed on the disk
            self._replace(file)
            return self._read_index(file)

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Read at most ``size`` bytes of a tar, which is fetched first if it is not in the cache.

        Raises:
            StreamError: it cannot be had.
            OSError: the disk fails.
        """
        descriptor = self._descriptor(shard)
        if descriptor is None:
            lease = self._needed(self._tar(shard))
            descriptor = os.dup(lease.fileno())  # the lease lasts until both are closed
            self._hold(shard, lease)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def stamps(self) -> list[str]:
        """Return a string per shard that changes with it; see :meth:`fastvid.data.shards.reader.ShardFiles.stamps`."""
        return [fact.stamp for fact in self._facts]

    def renew(self, shard: int) -> None:
        """Fetch a shard again if its copy in the cache has changed.

        Raises:
            StreamError: it cannot be had, or the copy is being read by others for too long.
        """
        file = self._tar(shard)
        with self._needed(file) as lease:
            sha256 = sha256_of(lease)
        if sha256 != file.sha256:
            log.warning("%s has changed in the cache: fetching it again", file.name)
            self._replace(file)

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        """Fetch the shards of ``current``, then those of ``upcoming``, in the background. Those of ``current`` stay in
        the cache until the next call; all others may go when room is needed."""
        with self._lock:
            if (list(current), list(upcoming)) == (self._current, self._upcoming):
                return
            self._current, self._upcoming, self._stamp = list(current), list(upcoming), time.time_ns()
            before, leases = list(self._held), {**self._past, **self._held}
            self._held = {shard: leases.pop(shard) for shard in self._current if shard in leases}
            self._past = {shard: leases.pop(shard) for shard in before if shard in leases}
            _close(leases)
            self._past_read = time.monotonic()
            self._fetched.clear()
            self._todo = deque(dict.fromkeys([*self._current, *self._upcoming]))
            missing = [shard for shard in self._current if shard not in self._held][:_MOST_HELD]
        for shard in missing:  # what is there already must not go before it is read
            file = self._tar(shard)
            lease = self._cache.held(self._path(file), file.size, self._stamp)
            if lease is not None:
                self._hold(shard, lease)
        with self._lock:
            if (self._todo or self._past) and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._fetch_ahead, name="fetch shards", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Release the shards in the cache, and stop fetching after the current shard."""
        with self._lock:
            self._current, self._upcoming, self._todo = [], [], deque()
            _close(self._held)
            _close(self._past)

    def _fetch_ahead(self) -> None:
        while True:
            with self._lock:
                if time.monotonic() - self._past_read > self._linger:
                    _close(self._past)
                if not self._todo and not self._past:
                    self._thread = None
                    return
                shard = self._todo[0] if self._todo else None
                held, upcoming = shard in self._held, list(self._upcoming)
            if shard is None:
                time.sleep(_POLL)
                continue
            spare = [self._path(file) for s in upcoming for file in (self._index(s), self._tar(s))]
            try:
                self._lease(self._index(shard), spare).close()
                if not held:
                    self._hold(shard, self._lease(self._tar(shard), spare))
            except InUse:
                time.sleep(_POLL)
                continue
            except StreamError as error:  # the read that needs the shard tries again, and raises
                log.warning("fetching ahead: %s", error)
            with self._lock:
                if self._todo and self._todo[0] == shard:
                    self._todo.popleft()

    def _needed(self, file: _File) -> io.FileIO:
        """Lease a file that is read now. The windows give way to make room for it."""
        until, again = time.monotonic() + self._patience, False
        while True:
            try:
                return self._lease(file)
            except InUse as error:
                found = self._let_go(current=again)  # another thread may just have closed the window before
                again = True
                if not found and time.monotonic() > until:
                    raise StreamError(
                        f"{file.name} cannot be fetched: {error} by other processes, for {self._patience:g} s by now. "
                        "Give --data.disk-gb more, or this process its own --data.disk-dir"
                    ) from error
            time.sleep(_POLL)

    def _lease(self, file: _File, spare: Collection[str] = ()) -> io.FileIO:
        def make(descriptor: int) -> None:
            self._remote.download(file.name, file.size, file.sha256, descriptor)
            self._count(file)

        with self._lock:
            stamp = self._stamp
            if stamp is not None and file.shard not in self._current:
                stamp = stamp + 1 if file.shard in self._upcoming else None
        try:
            return self._cache.lease(self._path(file), file.size, make, stamp=stamp, spare=spare)
        except NotThere as error:
            raise StreamError(
                f"{error}, and {NAME} names it: upload it, or write {NAME} anew with `python -m fastvid.data index`"
            ) from error

    def _count(self, file: _File) -> None:
        with self._lock:
            again = file.shard in self._current and file.name in self._fetched and file.name == self.names[file.shard]
            self._fetched.add(file.name)
            warn, self._warned = again and not self._warned, self._warned or again
        if warn:
            log.warning(
                "%s was fetched again within its window: other processes need the room in %s. Give --data.disk-gb "
                "more, or each its own --data.disk-dir",
                file.name,
                self._cache.folder,
            )

    def _replace(self, file: _File) -> None:
        until = time.monotonic() + self._patience
        while not self._cache.drop(self._path(file)):
            with self._lock:
                _close(self._held)
                _close(self._past)
            if time.monotonic() > until:
                raise StreamError(
                    f"{self._cache.folder / self._path(file)} is damaged, and another process has been reading it for "
                    f"{self._patience:g} s: end that, then delete the file"
                )
            time.sleep(_POLL)

    def _read_index(self, file: _File) -> ShardIndex:
        with self._needed(file) as lease:
            data = lease.readall()
        return check_index(data, self._remote.where(file.name), self._facts[file.shard])

    def _descriptor(self, shard: int) -> int | None:
        """Open a descriptor of the tar file, if it is in the cache; the caller closes it."""
        with self._lock:
            lease = self._held.get(shard)
            if lease is None and (lease := self._past.get(shard)) is not None:
                self._past_read = time.monotonic()
            return None if lease is None else os.dup(lease.fileno())

    def _hold(self, shard: int, lease: io.FileIO) -> None:
        """Keep a file open if it is of the current window."""
        with self._lock:
            if shard in self._current and shard not in self._held and len(self._held) < _MOST_HELD:
                self._held[shard] = lease
            else:
                lease.close()

    def _let_go(self, current: bool) -> bool:
        """Close the previous window or the current one. Return whether there was one."""
        with self._lock:
            leases = self._held if current else self._past
            found = bool(leases)
            _close(leases)
            return found

    def _tar(self, shard: int) -> _File:
        fact = self._facts[shard]
        return _File(shard, fact.name, fact.bytes, fact.sha256)

    def _index(self, shard: int) -> _File:
        fact = self._facts[shard]
        return _File(shard, index_name(fact.name), fact.index_bytes, fact.index_sha256)

    def _path(self, file: _File) -> str:
        return f"{self._folder}/{file.name}"


def _close(leases: dict[int, io.FileIO]) -> None:
    for lease in leases.values():
        lease.close()
    leases.clear()
