"""Detection of slow file systems: another operating system's, or a network's."""

import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

_WINDOWS = ("9p", "drvfs", "ntfs", "ntfs3", "fuseblk", "vboxsf", "virtiofs", "exfat", "vfat")
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph")
_BYTES, _SECONDS = 64 << 20, 2.0  # of reading, at most
_SEQUENTIAL, _RANDOM = 1 << 20, 64 << 10  # bytes of one read


def slow_filesystem_warning(path: str | Path) -> str | None:
    """Measure the reading speed where the file system is known to be slow.

    Args:
        path: the data: a folder, or a file.

    Returns:
        A sentence with the measured speeds and the way out; None where the file system is not of those that are slow.
        Reads at most 64 MB, for two seconds.
    """
    path = Path(path).resolve()
    kind = filesystem_type(path)
    if not (kind in _WINDOWS or kind in _NETWORK or kind.startswith("fuse.")):
        return None
    files = _files(path)
    sequential, scattered = _speed(_one_after_the_other(files), _SEQUENTIAL), _speed(_anywhere(files), _RANDOM)
    if sequential is None or scattered is None:
        speeds = "its speed could not be measured"
    else:
        speeds = f"measured {sequential:.0f} MB/s in one go and {scattered:.0f} MB/s in pieces of 64 kB"
    if kind in _NETWORK:
        remedy = "copy it to a local disk, or stream it through the disk cache by giving its URL"
    else:
        remedy = "in WSL, copy it from /mnt/... into the Linux file system (ext4), such as a folder below ~"
    return (
        f"{path} is on a {kind} file system: {speeds}. Pack loose files into shards with `python -m fastvid.data "
        f"pack`; {remedy}"
    )


def filesystem_type(path: Path, mountinfo: str | Path = "/proc/self/mountinfo") -> str:
    """Return the type of the file system that an absolute path without links is on, as in ``mount``; "" if unknown."""
    try:
        lines = Path(mountinfo).read_text(errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return ""
    best, kind = -1, ""
    for line in lines:  # ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS [TAGS ...] - TYPE SOURCE OPTIONS
        before, _, after = line.partition(" - ")
        if len(before.split()) < 6 or not after:
            continue
        mount = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4]))
        if len(mount.parts) >= best and path.is_relative_to(mount):  # of two at one place, the later one is seen
            best, kind = len(mount.parts), after.split()[0]
    return kind


def _files(path: Path) -> list[tuple[Path, int]]:
    """List some of the files with their sizes, no more than it takes to read 64 MB."""
    found: list[tuple[Path, int]] = []
    until = time.monotonic() + _SECONDS / 4  # listing a folder is slow there as well
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file() and (size := file.stat().st_size):
            found.append((file, size))
        if sum(size for _, size in found) >= _BYTES or len(found) >= 256 or time.monotonic() > until:
            break
    return found


def _one_after_the_other(files: list[tuple[Path, int]]) -> Iterator[tuple[Path, int]]:
    for file, size in files:
        for at in range(0, size, _SEQUENTIAL):
            yield file, at


def _anywhere(files: list[tuple[Path, int]]) -> Iterator[tuple[Path, int]]:
    chosen = random.Random(0)
    while files:
        file, size = chosen.choice(files)
        yield file, chosen.randrange(0, size, _RANDOM)


def _speed(places: Iterator[tuple[Path, int]], piece: int) -> float | None:
    """Measure reading in pieces of so many bytes, in millions of bytes a second; None if nothing can be read."""
    done, asked, start = 0, 0, time.perf_counter()
    for file, at in places:
        if asked + piece > _BYTES // 2 or time.perf_counter() - start > _SECONDS / 2:
            break
        asked += piece
        try:
            descriptor = os.open(file, os.O_RDONLY)
        except OSError:  # counted as nothing read
            continue
        try:
            os.posix_fadvise(descriptor, at, piece, os.POSIX_FADV_DONTNEED)  # from the disk, not from memory
            done += len(os.pread(descriptor, piece, at))
        finally:
            os.close(descriptor)
    return done / 1e6 / (time.perf_counter() - start) if done else None
