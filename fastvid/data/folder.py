"""Videos as files in a folder tree."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from fastvid.data.listed import listed_labels
from fastvid.data.pack.keys import key_of
from fastvid.data.part_folders import folder_labels
from fastvid.data.source import VIDEO_SUFFIXES, Origin, Sample
from fastvid.video import DecodeError

Answer = TypeVar("Answer")

# Files have no natural shards; this many, in order of their names, are treated as one.
_FILES_PER_SHARD = 1024


class FolderSource:
    """All video files below a folder, in order of their paths; a sample's key is its path relative to the folder.

    Args:
        root: the folder, or one video file.
        labels: a table of paths and labels, see :func:`fastvid.data.label_table.read_label_table`. Without it, a
            video's label is the name of the folder it is in, and None for videos directly in ``root`` or in folders
            named train, val and test there.
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
        self._listed = listed_labels(self.root, keys, None if labels is None else Path(labels).expanduser())
        found = folder_labels(keys) if self._listed is None else self._listed.labels(keys)
        self.samples = [Sample(key, label) for key, label in zip(keys, found, strict=True)]
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
        key = self.samples[index].key
        origin = Origin(key_of(key), folder=self.root)
        return origin if self._listed is None else self._listed.origin(key, origin)

    def _of_file(self, index: int, ask: Callable[[Path], Answer]) -> Answer:
        path = self.root / self.samples[index].key
        try:
            return ask(path)
        except OSError as error:
            raise DecodeError("read", f"{path}: {error.strerror or error}") from error
