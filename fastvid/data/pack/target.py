"""Destination of a packed data set: a folder, or a place in an object store."""

import os
from pathlib import Path
from typing import Protocol

import fsspec


class Target(Protocol):
    """A place for finished files; what appears there under its name is complete."""

    @property
    def where(self) -> str:
        """Return the place, for messages."""
        ...

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file there, by name. Listed once, since a listing of a store takes time."""
        ...

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        ...

    def move_in(self, file: Path, name: str) -> None:
        """Move a local file there."""
        ...


class FolderTarget:
    """A local folder; files are moved in from the same file system."""

    def __init__(self, folder: Path):
        self.folder, self.where = folder, str(folder)

    def sizes(self) -> dict[str, int]:
        if not self.folder.exists():
            return {}
        with os.scandir(self.folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def move_in(self, file: Path, name: str) -> None:
        os.replace(file, self.folder / name)


class RemoteTarget:
    """A place that fsspec can write to: files are uploaded under a temporary name, compared in size, and renamed.

    Raises:
        ValueError: it cannot be written to, or a package that it needs is missing.
    """

    def __init__(self, url: str):
        self.where = url.rstrip("/")
        try:
            self._fs, self._path = fsspec.core.url_to_fs(self.where)
        except ImportError as error:  # fsspec says which package it needs
            raise ValueError(f"{self.where}: {error}") from error
        if self.where.startswith(("http://", "https://")):
            raise ValueError(f"{self.where} cannot be written to: give a folder or an object store such as s3://")

    def sizes(self) -> dict[str, int]:
        self._fs.invalidate_cache()
        try:
            listing = self._fs.ls(self._path, detail=True)
        except FileNotFoundError:
            return {}
        return {e["name"].rpartition("/")[2]: e["size"] for e in listing if e["type"] == "file"}

    def read(self, name: str) -> bytes:
        return self._fs.cat_file(f"{self._path}/{name}")

    def move_in(self, file: Path, name: str) -> None:
        partial, size = f"{name}.part", file.stat().st_size
        self._fs.makedirs(self._path, exist_ok=True)
        self._fs.put_file(str(file), f"{self._path}/{partial}")
        self._fs.invalidate_cache()
        arrived = self._fs.info(f"{self._path}/{partial}")["size"]
        if arrived != size:
            raise OSError(f"{self.where}/{partial} has {arrived} bytes after an upload of {size}")
        self._fs.mv(f"{self._path}/{partial}", f"{self._path}/{name}")
        file.unlink()


def open_target(out: str) -> Target:
    """Open the target that ``--out`` names: a folder, or a URL of any file system that fsspec knows."""
    return RemoteTarget(out) if "://" in out else FolderTarget(Path(out).expanduser())
