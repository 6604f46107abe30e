"""Files that appear under their name complete, or not at all; files that one process owns."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO


def cache_dir() -> Path:
    """Return the folder for data that can be made again: ``$FASTVID_CACHE``, or ``fastvid`` in the user's cache
    directory.
    """
    chosen = os.environ.get("FASTVID_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fastvid"


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name ``path`` in an OSError that names no file, as those of a write to an open file on a full disk.

    Safetensors is written in Rust: its errors are no OSErrors, and say ``(os error 28)`` at their end, or, before 0.5,
    ``Os { code: 28``. They become OSErrors.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise
    except Exception as error:
        number = re.search(r"(?:\(os error |\bOs { code: )(\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def write_whole(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file so that a reader, or a kill at any moment, sees the old one or the new one.

    Args:
        path: path of the file.
        content: text or bytes of the file.
        sync: wait until the content is on the disk, so that a machine that goes down does not leave an empty file.

    Raises:
        OSError: it cannot be written; the old file, if there is one, is as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            with partial.open("wb") as file:
                file.write(content)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):  # on a read-only file system it says so again
            partial.unlink()
        raise


def write_new(path: Path, content: bytes) -> None:
    """Write a file, complete or not at all and to the disk. One that is there already stays as it is, also where
    another process is the first.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        with naming(path), partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)  # unlike a rename it fails where another process was first
    except FileExistsError:
        pass
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a folder to write in, which becomes ``path`` at the end of the block; after an error nothing is there.

    Args:
        path: path of the folder; nothing may be there but an empty folder.
        sync: wait until the folder and its files are on the disk.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with naming(path):
            partial.mkdir(parents=True)
            yield partial
            if sync:
                for file in (*partial.iterdir(), partial):
                    flush(file)
            os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # on a full disk, what it takes is needed to say so
        raise
    if sync:
        flush(path.parent)


def owned(path: Path) -> TextIO:
    """Lock a file until it is closed or the process ends, and write the owner into it.

    Raises:
        BlockingIOError: another process has it; the message names that one.
    """
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise BlockingIOError(f"{path.parent} is in use by {owner}") from None
    file.truncate(0)
    with naming(path):
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
    return file


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(file: BinaryIO) -> str:
    """Return the hexadecimal sha256 of the rest of a file, read a megabyte at a time."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest parent that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
