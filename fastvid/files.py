"""Files that appear under their name complete, or not at all; files that one process owns."""

import contextlib
import fcntl
import hashlib
import os
import socket
from pathlib import Path
from typing import BinaryIO, TextIO


def write_whole(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Writes a file: a reader, or a kill at any moment, sees the old one or the new one.

    Args:
        path: of the file.
        content: of the file.
        sync: wait until the content is on the disk, so that a machine that goes down does not leave an empty file.

    Raises:
        OSError: it cannot be written; the old file, if there is one, is as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
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


def owned(path: Path) -> TextIO:
    """Locks a file for this process, until it is closed or the process ends, and writes into it whose it is.

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
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(file: BinaryIO) -> str:
    """Hexadecimal sha256 of what is left to read of a file, a megabyte at a time."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
