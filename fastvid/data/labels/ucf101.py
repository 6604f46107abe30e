"""The official splits of UCF-101 (K. Soomro et al., CRCV-TR-12-01, 2012)."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from fastvid.data.labels.delimited import folders_near, read_text
from fastvid.data.labels.part_folders import TEST, TRAIN, part_of_folder
from fastvid.data.source import VIDEO_SUFFIXES

# Split 1 tests the groups 1 to 7 of every class, split 2 those from 8 to 14, split 3 those from 15 to 21.
_TEST_GROUPS = {1: range(1, 8), 2: range(8, 15), 3: range(15, 22)}
_GROUP = re.compile(r"v_[A-Za-z0-9]+_g(\d+)_c\d+$")


def ucf_parts(
    names: Sequence[str], split: int, folders: Sequence[Path], lists: Path | None = None
) -> tuple[list[tuple[int, str] | None], list[str]]:
    """Return the part and class of each video from ``trainlist0X.txt`` and ``testlist0X.txt``. Where there are no lists
    and ``fastvid.data pack --format ucf101`` packed the videos, return the part that they were packed into, after a
    check.

    Args:
        names: names of the videos, each ending in class folder and file name without suffix.
        split: 1, 2 or 3.
        folders: folders of the videos; the lists are looked for in and beside them.
        lists: folder of the lists; None looks for them.

    Returns:
        (part and class folder as listed of each video, None for one on neither list; sentences for the user).

    Raises:
        ValueError: there are no lists, they name none of the videos, or a video is on both lists.
    """
    found = find_lists(split, folders if lists is None else [lists], beside=lists is None)
    if found is None:
        if names and all(part_of_folder(name.partition("/")[0]) in (TRAIN, TEST) for name in names):
            return _packed(names, split), []
        where = ", ".join(str(folder) for folder in ([lists] if lists is not None else folders)) or "these videos"
        raise ValueError(
            f"protocol ucf101-{split}: there is no trainlist{split:02d}.txt with testlist{split:02d}.txt in or beside "
            f"{where}: put the official lists there"
        )
    listed = read_lists(found)
    there = by_listed_name(names)
    entries = [listed.get(listed_name(name)) for name in names]
    if not any(entries):
        raise ValueError(f"{found[0]} and {found[1]} list none of the videos, such as {names[0]!r}")
    notes = []
    missing = len(listed.keys() - there.keys())
    if missing:
        notes.append(f"{missing} of {len(listed)} videos on the official lists are not there")
    spare = [name for name, entry in zip(names, entries, strict=True) if entry is None]
    if spare:
        notes.append(f"{len(spare)} videos are on neither official list and are left out, such as {spare[0]!r}")
    return [None if e is None else (e[0], e[1].split("/")[-2] if "/" in e[1] else "") for e in entries], notes


def find_lists(split: int, folders: Sequence[Path], beside: bool = True) -> tuple[Path, Path] | None:
    """Find ``trainlist0X.txt`` and ``testlist0X.txt`` of a split in one folder; return None where there are none.

    Args:
        split: 1, 2 or 3.
        folders: folders to search, with their sub-folders.
        beside: also search their parents and the folders beside them.
    """
    train, test = (f"{part}list{split:02d}.txt" for part in ("train", "test"))
    for folder in folders:
        for place in folders_near(folder, beside):
            if (place / train).is_file() and (place / test).is_file():
                return place / train, place / test
    return None


def read_lists(lists: tuple[Path, Path]) -> dict[str, tuple[int, str]]:
    """Read a training and a test list, and return part and path as listed, by :func:`listed_name`.

    Raises:
        FileNotFoundError, ValueError: one cannot be read, or a video is on both.
    """
    found: dict[str, tuple[int, str]] = {}
    for part, file in zip((TRAIN, TEST), lists, strict=True):
        for line in read_text(file).split("\n"):
            if line.strip():
                path = line.split()[0]  # a training list gives the class's number too
                other, _ = found.setdefault(listed_name(path), (part, path))
                if other != part:
                    raise ValueError(f"{lists[0]} and {lists[1]} both list {path}")
    return found


def is_ucf(name: str) -> bool:
    """Return whether a video's name without ending is of UCF-101's form: ``v_Archery_g03_c01``."""
    return _GROUP.search(name) is not None


def listed_name(path: str) -> str:
    """Return the class folder and file name without ending, in lower case. The lists' folder HandstandPushups holds
    files named v_HandStandPushups, and copies of the data set use either spelling for both.
    """
    folders, _, file = path.rpartition("/")
    stem = file.rpartition(".")[0] if file.lower().endswith(VIDEO_SUFFIXES) else file
    return f"{folders.rpartition('/')[2]}/{stem}".lower()


def by_listed_name(paths: Iterable[str]) -> dict[str, str]:
    """Return the paths by :func:`listed_name`.

    Raises:
        ValueError: two paths have the same listed name.
    """
    found: dict[str, str] = {}
    for path in paths:
        other = found.setdefault(listed_name(path), path)
        if other != path:
            raise ValueError(f"{other} and {path} would both be the video {listed_name(path)} of UCF-101: keep one")
    return found


def _packed(names: Sequence[str], split: int) -> list[tuple[int, str] | None]:
    """Return the parts that videos were packed into, if the packing used this split."""
    parts = [TEST if part_of_folder(name.partition("/")[0]) == TEST else TRAIN for name in names]
    for name, part in zip(names, parts, strict=True):
        group = _GROUP.search(name)
        if group is None or (int(group[1]) in _TEST_GROUPS[split]) != (part == TEST):
            raise ValueError(
                f"protocol ucf101-{split}: the videos were packed by another split, since {name!r} would not be in "
                f"{'test' if part == TEST else 'train'}: pack them with --split {split}, or with --split 0 and "
                "put the lists beside the shards"
            )
    return [(part, name.split("/")[-2]) for name, part in zip(names, parts, strict=True)]
