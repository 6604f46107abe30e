"""The official splits of HMDB-51 (H. Kuehne et al., ICCV 2011): a file ``CLASS_test_splitN.txt`` for each class."""

from collections.abc import Sequence
from pathlib import Path

from fastvid.data.labels.delimited import folders_near, read_text
from fastvid.data.labels.part_folders import TEST, TRAIN
from fastvid.data.source import VIDEO_SUFFIXES

_PARTS = {"0": None, "1": TRAIN, "2": TEST}

Lists = dict[str, Path]
"""The file of each class, by the class's name."""


def hmdb_parts(
    names: Sequence[str], split: int, folders: Sequence[Path], lists: Path | None = None
) -> tuple[list[tuple[int, str] | None], list[str]]:
    """Return the part and class of each video, and sentences for the user.

    Args:
        names: names of the videos, each ending in class folder and file name without suffix.
        split: 1, 2 or 3.
        folders: folders of the videos; the lists are looked for in and beside them.
        lists: folder of the lists; None looks for them.

    Returns:
        (part and class of each video, None for one that the split leaves out or that is not listed; sentences).

    Raises:
        ValueError: there are no lists, one is damaged, or they name none of the videos.
    """
    found = find_hmdb_lists(split, folders if lists is None else [lists], beside=lists is None)
    if not found:
        where = ", ".join(str(folder) for folder in ([lists] if lists is not None else folders)) or "these videos"
        raise ValueError(
            f"protocol hmdb51-{split}: there is no CLASS_test_split{split}.txt in or beside {where}: put the official "
            "lists there"
        )
    listed = read_hmdb_lists(found)
    entries = [listed.get(_listed_name(name)) for name in names]
    if all(entry is None for entry in entries):
        raise ValueError(
            f"the lists in {next(iter(found.values())).parent} name none of the videos, such as {names[0]!r}"
        )
    notes = []
    there = {_listed_name(name) for name in names}
    used = {name for name, (part, _) in listed.items() if part is not None}
    if missing := len(used - there):
        notes.append(f"{missing} of {len(used)} videos on the official lists are not there")
    if spare := [name for name, entry in zip(names, entries, strict=True) if entry is None or entry[0] is None]:
        notes.append(f"{len(spare)} videos are on no official list or left out by it, such as {spare[0]!r}")
    return [(e[0], e[1]) if e is not None and e[0] is not None else None for e in entries], notes


def find_hmdb_lists(split: int, folders: Sequence[Path], beside: bool = True, of: str | None = None) -> Lists:
    """Return the lists of a split in the first folder that has some, by class; nothing where there are none.

    Args:
        split: 1, 2 or 3.
        folders: folders to search, with their sub-folders.
        beside: also search their parents and the folders beside them.
        of: a class whose list must be among them; with it no folder is listed that lacks this one.
    """
    ending = f"_test_split{split}.txt"
    for folder in folders:
        for place in folders_near(folder, beside):
            if of is not None and not (place / f"{of}{ending}").is_file():
                continue
            if found := {path.name.removesuffix(ending): path for path in sorted(place.glob(f"*{ending}"))}:
                return found
    return {}


def read_hmdb_lists(lists: Lists) -> dict[str, tuple[int | None, str]]:
    """Return the part of each listed video, None for one that is in neither, and its class, by folder and file name.

    Raises:
        ValueError: a line is not a video and 0, 1 or 2.
    """
    found: dict[str, tuple[int | None, str]] = {}
    for name, file in lists.items():
        for number, line in enumerate(read_text(file).split("\n"), 1):
            if not line.strip():
                continue
            video, _, part = line.strip().rpartition(" ")
            if part not in _PARTS or not video:
                raise ValueError(f"{file}, line {number}: not a video and 0, 1 or 2; it reads {line.strip()[:120]!r}")
            found[_listed_name(f"{name}/{video.strip()}")] = _PARTS[part], name
    return found


def _listed_name(path: str) -> str:
    """Return the class folder and file name without ending."""
    folders, _, file = path.rpartition("/")
    stem = file.rpartition(".")[0] if file.lower().endswith(VIDEO_SUFFIXES) else file
    return f"{folders.rpartition('/')[2]}/{stem}"
