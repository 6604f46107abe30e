"""The official splits of UCF-101 (K. Soomro et al., CRCV-TR-12-01, 2012): which list a video is on."""

import re
from collections.abc import Sequence
from pathlib import Path

from fastvid.data.part_folders import TEST, TRAIN, part_of_folder

# Split 1 tests the groups 1 to 7 of every class, split 2 those from 8 to 14, split 3 those from 15 to 21.
_TEST_GROUPS = {1: range(1, 8), 2: range(8, 15), 3: range(15, 22)}
_GROUP = re.compile(r"v_[A-Za-z0-9]+_g(\d+)_c\d+$")


def ucf_parts(
    names: Sequence[str], split: int, folders: Sequence[Path], lists: Path | None = None
) -> tuple[list[int | None], list[str]]:
    """The part of each video by ``trainlist0X.txt`` and ``testlist0X.txt``; or, where there are no lists and the videos
    were packed by ``fastvid.data pack --format ucf101``, by the part they were packed into, which is checked.

    Args:
        names: of the videos; the last two parts of each are class folder and file name without ending.
        split: 1, 2 or 3.
        folders: where the videos are; the lists are looked for in them, and beside them.
        lists: folder that holds the lists, instead.

    Returns:
        (a part per video, None for one on neither list; sentences for the user).

    Raises:
        ValueError: there are no lists, they name none of the videos, or a video is on both.
    """
    found = _find(split, folders if lists is None else [lists], beside=lists is None)
    if found is None:
        if names and all(part_of_folder(name.partition("/")[0]) in (TRAIN, TEST) for name in names):
            return _packed(names, split), []
        where = ", ".join(str(folder) for folder in ([lists] if lists is not None else folders)) or "these videos"
        raise ValueError(
            f"protocol ucf101-{split}: there is no trainlist{split:02d}.txt with testlist{split:02d}.txt in or beside "
            f"{where}: put the official lists there"
        )
    train, test = (_read(path) for path in found)
    twice = sorted(train & test)
    if twice:
        raise ValueError(f"{found[0]} and {found[1]} both list {twice[0]}")
    ends = ["/".join(name.split("/")[-2:]) for name in names]
    parts = [TRAIN if end in train else TEST if end in test else None for end in ends]
    if not any(part is not None for part in parts):
        raise ValueError(f"{found[0]} and {found[1]} list none of the videos, such as {names[0]!r}")
    notes = []
    missing = len((train | test) - set(ends))
    if missing:
        notes.append(f"{missing} of {len(train | test)} videos on the official lists are not there")
    spare = [name for name, part in zip(names, parts, strict=True) if part is None]
    if spare:
        notes.append(f"{len(spare)} videos are on neither official list and are left out, such as {spare[0]!r}")
    return parts, notes


def _find(split: int, folders: Sequence[Path], beside: bool) -> tuple[Path, Path] | None:
    train, test = (f"{part}list{split:02d}.txt" for part in ("train", "test"))
    for folder in folders:
        near = [*folder.parent.glob(train), *folder.parent.glob(f"*/{train}")] if beside else []
        for path in [*sorted(folder.rglob(train)), *sorted(near)]:
            if path.with_name(test).exists():
                return path, path.with_name(test)
    return None


def _read(path: Path) -> set[str]:
    """The videos of a list, without ending; a training list gives the class's number too."""
    lines = path.read_text().splitlines()
    return {line.split()[0].rpartition(".")[0] for line in lines if line.strip()}


def _packed(names: Sequence[str], split: int) -> list[int | None]:
    """The parts that videos were packed into, if those are of this split."""
    parts = [part_of_folder(name.partition("/")[0]) for name in names]
    for name, part in zip(names, parts, strict=True):
        group = _GROUP.search(name)
        if group is None or (int(group[1]) in _TEST_GROUPS[split]) != (part == TEST):
            raise ValueError(
                f"protocol ucf101-{split}: the videos were packed by another split, since {name!r} would not be in "
                f"{'test' if part == TEST else 'train'}: pack them with --split {split}, or with --split 0 and "
                "put the lists beside the shards"
            )
    return parts
