"""Parts of a data set, from the names of folders and shards."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

TRAIN, VAL, TEST = 0, 1, 2
PART_NAMES = ("train", "val", "test")

_NAMES = {
    "train": TRAIN, "training": TRAIN, "val": VAL, "valid": VAL, "validate": VAL, "validation": VAL, "dev": VAL,
    "test": TEST, "testing": TEST,
}  # fmt: skip
_ONE = "|".join(sorted(_NAMES, key=len, reverse=True))
_FOLDER = re.compile(rf"(?:videos?[-_])?({_ONE})(?:[-_]?(?:set|split|videos?|\d+))?")
_SHARD = re.compile(rf"(?:.*[-_.])?({_ONE})(?:[-_.]*\d+)*(?:[-_.]*of[-_.]*\d+)?")


def part_of_folder(name: str) -> int | None:
    """Return the part that a folder's name says, as ``train``, ``Validation``, ``dev`` and ``videos_test`` do:
    :data:`TRAIN`, :data:`VAL`, :data:`TEST` or None.
    """
    match = _FOLDER.fullmatch(name.strip().lower())
    return None if match is None else _NAMES[match[1]]


def part_of_shard(name: str) -> int | None:
    """Return the part that a shard's name says, as ``val-000003`` and ``kinetics-train-01`` do, or None."""
    match = _SHARD.fullmatch(name.lower())
    return None if match is None else _NAMES[match[1]]


def is_split(parts: Collection[int | None]) -> bool:
    """Return whether these parts make a split: one to train on and one to test on."""
    return TRAIN in parts and (VAL in parts or TEST in parts)


@dataclass(frozen=True)
class PartFolders:
    """The position of the folders train, val and test in the paths of videos.

    Attributes:
        level: number of folders above them.
        above: whether the folder just above may be the class, because not all videos share it.
    """

    level: int = 0
    above: bool = False

    def part(self, folders: tuple[str, ...]) -> int | None:
        """Return the part of a video in these nested folders."""
        return part_of_folder(folders[self.level]) if len(folders) > self.level else None

    def label(self, folders: tuple[str, ...]) -> str | None:
        """Return the class of a video: the folder below the part's, or else the one above where it differs between
        videos.
        """
        if len(folders) > self.level + 1:
            return folders[self.level + 1]
        return folders[self.level - 1] if self.above else None


def find_part_folders(folders: Iterable[tuple[str, ...]]) -> PartFolders | None:
    """Find the level at which folders are named train, and val or test, below the folders that all videos share.

    At the first such level other folders may stand beside them, as in ``train, test, extra``. Further down, as in
    ``CLASS/train``, every video must be in one.

    Args:
        folders: for each video, the folders it is in, outermost first.
    """
    paths = list(set(folders))
    depth = min(map(len, paths), default=0)
    shared = next((level for level in range(depth) if len({path[level] for path in paths}) > 1), depth)
    if is_split({part_of_folder(path[shared]) for path in paths if len(path) > shared}):
        return PartFolders(shared)
    for level in range(shared + 1, depth):
        parts = {part_of_folder(path[level]) for path in paths}
        if None not in parts and is_split(parts):
            return PartFolders(level, above=True)
    return None


def folders_of(name: str) -> tuple[str, ...]:
    """Return the folders in a path, outermost first."""
    return tuple(name.split("/")[:-1])


def folder_labels(paths: Collection[str]) -> list[str | None]:
    """Return the class of each video by its folder: below or above folders named train, val and test where there are
    any, or else the innermost folder. A video that is in no such folder has None.

    Args:
        paths: relative paths of all videos, with slashes.
    """
    found = find_part_folders(folders_of(path) for path in paths)
    if found is None:
        return [PurePosixPath(path).parent.name or None for path in paths]
    parts = ((folders_of(path), path) for path in paths)
    return [
        found.label(folders) if found.part(folders) is not None else PurePosixPath(path).parent.name or None
        for folders, path in parts
    ]
