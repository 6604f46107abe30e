"""Archives of videos that are read once, as streams: local files, or files behind a URL."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from fastvid.data.shards.tar_reader import tar_members
from fastvid.data.storage.remote import Remote, without_secrets
from fastvid.files import cache_dir, write_whole
from fastvid.video import Limits

_GZIP = b"\x1f\x8b"
_LONGEST_LIST = 4 << 30
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")
ARCHIVE_ERRORS = (ValueError, OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class Archive:
    """A tar, compressed by gzip or not.

    Attributes:
        name: of it in the collection.
        path: of the file, or its URL.
        size: bytes.
    """

    name: str
    path: str
    size: int

    @property
    def is_remote(self) -> bool:
        """Return whether it is behind a URL."""
        return "://" in self.path

    def lost(self, error: BaseException) -> str | None:
        """Return what to do where reading it failed on the way to it, and None where the file itself is damaged."""
        if not self.is_remote or isinstance(error, gzip.BadGzipFile) or not isinstance(error, OSError | EOFError):
            return None
        return (
            f"{without_secrets(self.path)} could not be read to its end ({type(error).__name__}: {error}). Finished "
            "shards are kept: run the same command again, it goes on from there"
        )

    def read(self, wanted: dict[str, int], skip: int) -> Iterator[tuple[int, int, int, bytes]]:
        """Read the archive once, as a stream; memory for one video.

        Args:
            wanted: position of each video's path in the collection. A member may have more folders in front.
            skip: number of wanted members to pass over.

        Yields:
            (number of the wanted member in the archive, position in the collection, size, bytes). A video over the
            limits comes without its bytes.

        Raises:
            ValueError, OSError, EOFError, zlib.error: the archive is damaged or cut short.
        """
        number = 0
        with self._open() as file:
            for member in tar_members(file, self.path, None, lambda sentence: None):
                position = _position(member.name, wanted)
                if position is None:
                    continue
                number += 1
                if number <= skip:
                    continue
                data = file.read(member.size) if member.size <= Limits().bytes else b""
                if data and len(data) < member.size:
                    raise EOFError(f"{self.path} is cut short in {member.name}")
                yield number, position, member.size, data

    def _open(self) -> BinaryIO:
        file: Any = fsspec.open(self.path, "rb").open() if self.is_remote else open(self.path, "rb")  # noqa: SIM115
        compressed = file.read(2) == _GZIP
        file.seek(0)
        return cast(BinaryIO, gzip.open(file, "rb")) if compressed else file


def fetched(url: str, list_suffixes: tuple[str, ...]) -> tuple[Path, list[Archive]]:
    """Fetch the lists in a folder behind a URL into the cache, where they are not there yet.

    Returns:
        (the folder that holds them, the archives beside them, which are not fetched).

    Raises:
        ValueError: the URL cannot be opened.
        StreamError: a list cannot be had.
    """
    remote = Remote(url)
    remote.check()
    files, root = fsspec.core.url_to_fs(url)
    found = files.find(root, detail=True)
    folder = cache_dir() / "lists" / hashlib.blake2b(url.encode(), digest_size=6).hexdigest()
    archives = []
    for path in sorted(found):
        name, size = path.removeprefix(root).lstrip("/"), int(found[path]["size"])
        if name.lower().endswith(ARCHIVE_SUFFIXES):
            archives.append(Archive(name, f"{url.rstrip('/')}/{name}", size))
        elif name.lower().endswith(list_suffixes):
            local = folder / name
            if not local.exists() or local.stat().st_size != size:
                local.parent.mkdir(parents=True, exist_ok=True)
                write_whole(local, remote.read(name, _LONGEST_LIST))
    return folder, archives


def _position(name: str, wanted: dict[str, int]) -> int | None:
    while name:
        if name in wanted:
            return wanted[name]
        name = name.partition("/")[2]
    return None
