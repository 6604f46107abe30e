"""Videos as files in a folder tree."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from fastvid.data.pack.keys import key_of
from fastvid.data.source import VIDEO_SUFFIXES, Origin, Sample
from fastvid.video import DecodeError

Answer = TypeVar("Answer")

# Files have no natural shards; this many, in order of their names, are treated as one.
_FILES_PER_SHARD = 1024


class FolderSource:
    """All video files below a folder, in order of their paths; a sample's key is its path relative to the folder.

    Args:
        root: the folder, or one video file.
        labels: a CSV with the columns ``path`` and ``label``. Without it, a video's label is the name of the folder it
            is in, and None for videos directly in ``root``.
    """

    def __init__(self, root: str | Path, labels: str | Path | None = None):
        root = Path(root)
        if root.is_file():
            self.root, files = root.parent, [root] if root.suffix.lower() in VIDEO_SUFFIXES else []
        else:
            self.root = root
            files = [p for p in root.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()]
        if not files:
            raise ValueError(f"no videos under {root}: looked for {', '.join(VIDEO_SUFFIXES)} and for .tar shards")
        keys = sorted(p.relative_to(self.root).as_posix() for p in files)
        given = _read_labels(Path(labels), set(keys)) if labels is not None else None
        self.samples = [Sample(key, _folder_label(key) if given is None else given.get(key)) for key in keys]
        full, rest = divmod(len(keys), _FILES_PER_SHARD)
        self.shard_sizes = [_FILES_PER_SHARD] * full + ([rest] if rest else [])
        self.description = f"{len(keys)} video files in {root}"

    def classes(self) -> list[str]:
        return sorted({sample.label for sample in self.samples if sample.label is not None})

    def stage(self, now: Sequence[int], then: Sequence[int]) -> None:
        """Nothing to do: the files are where they are."""

    def size(self, index: int) -> int:
        return self._of_file(index, lambda path: path.stat().st_size)

    def read(self, index: int) -> bytes:
        return self._of_file(index, Path.read_bytes)

    def origin(self, index: int) -> Origin:
        return Origin(key_of(self.samples[index].key), folder=self.root)

    def _of_file(self, index: int, ask: Callable[[Path], Answer]) -> Answer:
        path = self.root / self.samples[index].key
        try:
            return ask(path)
        except OSError as error:
            raise DecodeError("read", f"{path}: {error.strerror or error}") from error


def _folder_label(key: str) -> str | None:
    parent = Path(key).parent.name
    return parent or None


def _read_labels(path: Path, keys: set[str]) -> dict[str, str | None]:
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames is None or not {"path", "label"} <= set(rows.fieldnames):
            raise ValueError(f"{path}: the first line must name the columns path and label; it has {rows.fieldnames}")
        found = {row["path"]: row["label"] or None for row in rows}  # an empty one is none
    unknown = sorted(set(found) - keys)
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} of {len(found)} paths are not in the folder, the first is {unknown[0]!r}"
        )
    return found
