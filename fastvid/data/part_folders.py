"""Parts of a data set told by the names of folders."""

import re

TRAIN, VAL, TEST = 0, 1, 2
PART_NAMES = ("train", "val", "test")

_FOLDERS = {
    "train": TRAIN, "training": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST, "testing": TEST,
}  # fmt: skip
_SHARD = re.compile(rf"({'|'.join(_FOLDERS)})[-_.]\d+")


def part_of_folder(name: str) -> int | None:
    """The part that a folder's name says: :data:`TRAIN`, :data:`VAL`, :data:`TEST` or None."""
    return _FOLDERS.get(name.lower())


def part_of_shard(name: str) -> int | None:
    """The part that a shard's name says, as ``val-000003`` does, or None."""
    match = _SHARD.match(name.lower())
    return None if match is None else _FOLDERS[match[1]]
