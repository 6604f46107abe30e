"""Videos as files in a folder tree."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from fastvid.data.labels.listed import listed_labels
from fastvid.data.labels.part_folders import folder_labels
from fastvid.data.shards.keys import key_of
from fastvid.data.source import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Origin, Sample
from fastvid.data.walk import UNPACK, Listing, such_as, walk
from fastvid.names import spelled
from fastvid.video import DecodeError

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

# Files have no natural shards; this many, in order of their names, are treated as one.
_FILES_PER_SHARD = 1024


class FolderSource:
    """All video files below a folder, in order of their paths, as :func:`fastvid.data.walk.walk` finds them; a sample's
    key is its path relative to the folder, as :func:`fastvid.names.spelled` spells it.

    Args:
        root: the folder, or one video file.
        labels: a table of paths, labels and captions, see :func:`fastvid.data.labels.table.read_label_table`. Without
            it, a video's label is the name of the folder it is in, and None for videos directly in ``root`` or in
            folders named train, val and test there.
        names: paths below ``root`` of the videos, or images, that are meant; default: all videos that are there.
    """

    def __init__(self, root: str | Path, labels: str | Path | None = None, names: Sequence[str] | None = None):
        root = Path(root)
        if names is not None:
            self.root, names = root, list(names)
        elif root.is_file():
            if root.suffix.lower() not in VIDEO_SUFFIXES:
                raise ValueError(f"{spelled(root)} is not a video: looked for {', '.join(VIDEO_SUFFIXES)} and .tar")
            self.root, names = root.parent, [root.name]
        else:
            self.root, names = root, self._list(root)
        paths: dict[str, str] = {}
        for name in names:
            other = paths.setdefault(spelled(name), name)
            if other != name:
                raise ValueError(f"two files below {spelled(root)} would both be {spelled(name)}: rename one of them")
        keys = sorted(paths)
        self._odd = {key: name for key, name in paths.items() if key != name}
        self._listed = listed_labels(self.root, keys, None if labels is None else Path(labels).expanduser())
        found = folder_labels(keys) if self._listed is None else self._listed.labels(keys)
        captions = [None] * len(keys) if self._listed is None else self._listed.captions(keys)
        self.samples = [
            Sample(key, label, caption, kind="image" if key.lower().endswith(IMAGE_SUFFIXES) else "video")
            for key, label, caption in zip(keys, found, captions, strict=True)
        ]
        full, rest = divmod(len(keys), _FILES_PER_SHARD)
        self.shard_sizes = [_FILES_PER_SHARD] * full + ([rest] if rest else [])
        self.description = f"{len(keys)} video files in {spelled(root)}"

    def classes(self) -> list[str]:
        return sorted({sample.label for sample in self.samples if sample.label is not None})

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        """Do nothing: the files are local."""

    def size(self, index: int) -> int:
        return self._of_file(index, lambda path: path.stat().st_size)

    def read(self, index: int) -> bytes:
        return self._of_file(index, Path.read_bytes)

    def origin(self, index: int) -> Origin:
        key = self.samples[index].key
        origin = Origin(key_of(key), folder=self.root)
        return origin if self._listed is None else self._listed.origin(key, origin)

    def _list(self, root: Path) -> list[str]:
        """List the paths of the videos below ``root``; log what is left out."""
        found = walk(root)
        if found.videos and found.tars:
            raise ValueError(
                f"{spelled(root)} holds both videos ({such_as([path for path, _ in found.videos])}) and tar files "
                f"({such_as(found.tars)}): give a folder that holds only one of the two"
            )
        if not found.videos:
            raise ValueError(_nothing_in(found))
        if sentence := found.left_out():
            worth_a_look = found.refused or found.compressed or found.circles or found.empty
            log.log(logging.WARNING if worth_a_look else logging.INFO, "%s: %s", spelled(root), sentence)
        return [path for path, _ in found.videos]

    def _of_file(self, index: int, ask: Callable[[Path], Answer]) -> Answer:
        key = self.samples[index].key
        path = self.root / self._odd.get(key, key)
        try:
            return ask(path)
        except OSError as error:
            raise DecodeError("read", f"{spelled(path)}: {error.strerror or error}") from error


def _nothing_in(found: Listing) -> str:
    """Describe why there is nothing to read below a folder, and what to do."""
    root = spelled(found.root)
    if found.tars:
        return (
            f"{root} holds tar files only in folders below it ({such_as(found.tars)}): give the folder that holds "
            "them, or pack them into one with `python -m fastvid.data pack --format webdataset`"
        )
    if found.compressed:
        return f"{root} holds no videos but compressed archives ({such_as(found.compressed)}); {UNPACK}"
    left_out = found.left_out()
    return f"no videos under {root}: looked for {', '.join(VIDEO_SUFFIXES)} and for .tar shards" + (
        f"; {left_out}" if left_out else ""
    )
