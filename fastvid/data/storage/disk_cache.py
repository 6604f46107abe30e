"""Downloaded files in a folder that never outgrows its budget, shared by any number of processes on a machine.

The folder itself is the only record: what is in it counts, with the temporary files of running downloads at their full
size. Changes are made under a lock on the marker file; a shared lock on a file keeps it from being deleted, and an
exclusive one on a temporary file says that somebody is at it. The kernel frees the locks of a process that dies.
"""

import errno
import fcntl
import io
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastvid import units
from fastvid.data.storage.remote import StreamError

MARKER = "fastvid-cache"
_TEXT = b"fastvid keeps downloaded shards here and deletes them when it needs room: put nothing else here.\n"
_OURS = (".tar", ".index.jsonl")
_PART = ".part"
_BLOCK = 4096
_POLL = 0.02
OVERHEAD = 64 << 10  # the marker and the folders


class InUse(Exception):
    """Error that is raised when a file that would have to be deleted is being read."""


def disk_size(size: int) -> int:
    """Return the bytes that a file of ``size`` bytes takes of a budget: whole blocks of 4096 bytes."""
    return -(-size // _BLOCK) * _BLOCK


class DiskCache:
    """Files of known size, each made by a function of the caller's when it is not there.

    Args:
        folder: new, empty, or a cache already.
        budget: bytes that all files in it, being written or not, take at most.
        patience: seconds after which a download by another process is no longer waited for, if it stands still.

    Raises:
        ValueError: the folder holds other things, cannot be written to, or has no locks.
    """

    def __init__(self, folder: Path, budget: int, patience: float = 300.0):
        self.folder, self.budget, self.patience = folder, budget, patience
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / MARKER).exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
                raise ValueError(f"{folder} holds other files than a cache: give an empty folder as --data.disk-dir")
            with self._locked() as marker:
                if not os.fstat(marker).st_size:
                    os.write(marker, _TEXT)
                self._sweep()
                with suppress(InUse):  # by processes that were given a larger budget
                    self._make_room(0, ())
        except OSError as error:
            raise ValueError(
                f"{folder} cannot hold the cache of shards ({error.strerror}): give a folder on a local disk that can "
                "be written to as --data.disk-dir, or in FASTVID_CACHE"
            ) from error

    def used(self) -> int:
        """Return the number of bytes that the files in the folder take."""
        return sum(disk_size(status.st_size) for _, status in _files(self.folder))

    def held(self, name: str, size: int, stamp: int | None = None) -> io.FileIO | None:
        """Open a file if it is there; it cannot be deleted before this is closed.

        Args:
            name: its path below the folder.
            size: size of the file; one of another size is not this one.
            stamp: its new last use, in nanoseconds; default now.
        """
        try:
            file = io.FileIO(self.folder / name)
        except FileNotFoundError:
            return None
        fcntl.flock(file, fcntl.LOCK_SH)  # whoever is deleting it holds the lock for no longer than that takes
        status = os.fstat(file.fileno())
        if status.st_nlink and status.st_size == size:
            _touch(file, stamp)
            return file
        file.close()
        if status.st_nlink:
            self.drop(name)
        return None

    def lease(
        self,
        name: str,
        size: int,
        make: Callable[[int], None],
        *,
        stamp: int | None = None,
        spare: Collection[str] = (),
    ) -> io.FileIO:
        """Open a file, and make it first where it is missing. It cannot be deleted before it is closed.

        Args:
            name: its path below the folder, ``FOLDER/FILE``.
            size: size of the file.
            make: writes it, given a file descriptor with all its space reserved.
            stamp: its new last use, in nanoseconds; default now.
            spare: names of files not to be deleted for it.

        Raises:
            InUse: everything that might make room is being read, or a damaged copy of the file is.
            StreamError: the disk is full or fails, or another process's download stands still.
        """
        part_path, written, since = self.folder / (name + _PART), 0, time.monotonic()
        try:
            while True:
                file = self.held(name, size, stamp)
                if file is not None:
                    return file
                part = self._reserve(name, size, spare)
                if part is not None:
                    return self._make(part, name, size, make, stamp)
                time.sleep(_POLL)  # another process, or thread, is making it
                latest = _last_write(part_path)
                if latest != written:
                    written, since = latest, time.monotonic()
                elif time.monotonic() - since > self.patience:
                    raise StreamError(
                        f"another process has been downloading {part_path} and written nothing for "
                        f"{self.patience:g} s: end it, or give this one its own --data.disk-dir"
                    )
        except OSError as error:
            raise StreamError(
                f"{name} ({units.size(size)}) cannot be kept in {self.folder}: {error.strerror or error}; "
                f"{units.size(_free(self.folder))} are free there. Make room, or give --data.disk-dir another "
                "folder; a smaller --data.disk-gb makes the cache delete its files earlier"
            ) from error

    def drop(self, name: str) -> bool:
        """Delete a file unless a process reads it. Return whether it is gone."""
        with self._locked():
            return self._delete(self.folder / name)

    def _reserve(self, name: str, size: int, spare: Collection[str]) -> io.FileIO | None:
        """Make a temporary file that counts with its full size. Return None where another one exists."""
        path = self.folder / name
        with self._locked():
            self._sweep()
            part = path.with_name(path.name + _PART)
            if path.exists() and path.stat().st_size != size:
                raise InUse(f"{path} has changed its size, and is being read")
            if path.exists() or part.exists():
                return None
            path.parent.mkdir(exist_ok=True)
            self._make_room(size, {str(self.folder / s) for s in spare})
            file = io.FileIO(part, "x+")
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                os.ftruncate(file.fileno(), size)
            except OSError:
                part.unlink()
                file.close()
                raise
            return file

    def _sweep(self) -> None:
        """Delete files that killed processes left behind, and folders of data sets that are empty."""
        for part in self.folder.glob(f"*/*{_PART}"):
            self._delete(part)  # those of living processes are locked
        for folder in self.folder.iterdir():
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _make(self, part: io.FileIO, name: str, size: int, make: Callable[[int], None], stamp: int | None) -> io.FileIO:
        temporary = Path(os.fsdecode(part.name))
        try:
            _allocate(part.fileno(), size)
            make(part.fileno())
            part.seek(0)
            with self._locked():  # the lock is free for a moment as it becomes a shared one
                fcntl.flock(part, fcntl.LOCK_SH)
                _touch(part, stamp)
                temporary.rename(self.folder / name)
        except BaseException:
            temporary.unlink(missing_ok=True)  # while it is locked: afterwards the name may be another's
            part.close()
            raise
        return part

    def _make_room(self, size: int, spare: Collection[str]) -> None:
        """Delete files, those longest out of use first, together with all that have the same last use."""
        files = sorted(_files(self.folder), key=lambda file: file[1].st_mtime_ns)
        excess = sum(disk_size(status.st_size) for _, status in files) + disk_size(size) - self.budget
        window = None
        for path, status in files:
            if excess <= 0 and status.st_mtime_ns != window:
                break
            if path.endswith(_OURS) and path not in spare and self._delete(Path(path)):
                excess -= disk_size(status.st_size)
                window = status.st_mtime_ns
        if excess > 0:
            raise InUse(f"{self.folder} has no room for {size} bytes, and what it holds is being read")

    def _delete(self, path: Path) -> bool:
        try:
            with io.FileIO(path) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        except BlockingIOError:
            return False
        except FileNotFoundError:
            pass
        return True

    @contextmanager
    def _locked(self) -> Iterator[int]:
        file = os.open(self.folder / MARKER, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)


def _files(folder: str | Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all files and folders below a folder. They may come and go meanwhile."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield entry.path, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path)


def _allocate(file: int, size: int) -> None:
    """Allocate the disk space now, so that a full disk is found before the download and not at its end."""
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system, or a size, that knows no such thing
            raise


def _last_write(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _touch(file: io.FileIO, stamp: int | None) -> None:
    stamp = time.time_ns() if stamp is None else stamp
    os.utime(file.fileno(), ns=(stamp, stamp))
