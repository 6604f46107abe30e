"""Where a packed data set goes: a folder, or a place in an object store."""

import os
from pathlib import Path
from typing import Protocol

import fsspec


class Target(Protocol):
    """A place for finished files; what appears there under its name is complete."""

    @property
    def where(self) -> str:
        """For messages."""
        ...

    def names(self) -> list[str]:
        """File names there."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if it is not there."""
        ...

    def read(self, name: str) -> bytes:
        """A file's content."""
        ...

    def move_in(self, file: Path, name: str) -> None:
        """Moves a local file there."""
        ...


class FolderTarget:
    """A local folder; files are moved in from the same file system."""

    def __init__(self, folder: Path):
        self.folder, self.where = folder, str(folder)

    def names(self) -> list[str]:
        return sorted(os.listdir(self.folder)) if self.folder.exists() else []

    def size(self, name: str) -> int | None:
        path = self.folder / name
        return path.stat().st_size if path.exists() else None

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def move_in(self, file: Path, name: str) -> None:
        os.replace(file, self.folder / name)


class RemoteTarget:
    """A place that fsspec can write to: files are uploaded under a temporary name, compared in size, and renamed."""

    def __init__(self, url: str):
        self.where = url.rstrip("/")
        self._fs, self._path = fsspec.core.url_to_fs(self.where)

    def names(self) -> list[str]:
        self._fs.invalidate_cache()
        if not self._fs.exists(self._path):
            return []
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in self._fs.ls(self._path, detail=False))

    def size(self, name: str) -> int | None:
        self._fs.invalidate_cache()
        try:
            return self._fs.info(f"{self._path}/{name}")["size"]
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes:
        return self._fs.cat_file(f"{self._path}/{name}")

    def move_in(self, file: Path, name: str) -> None:
        partial, size = f"{name}.part", file.stat().st_size
        self._fs.makedirs(self._path, exist_ok=True)
        self._fs.put_file(str(file), f"{self._path}/{partial}")
        if self.size(partial) != size:
            raise OSError(f"{self.where}/{partial} has {self.size(partial)} bytes after an upload of {size}")
        self._fs.mv(f"{self._path}/{partial}", f"{self._path}/{name}")
        file.unlink()


def open_target(out: str) -> Target:
    """The target that ``--out`` names: a folder, or a URL of any file system that fsspec knows."""
    return RemoteTarget(out) if "://" in out else FolderTarget(Path(out).expanduser())
