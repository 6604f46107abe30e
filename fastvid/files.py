"""Files that appear under their name complete, or not at all."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import BinaryIO


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
