"""UCF-101: class folders and split files."""

from pathlib import Path, PurePosixPath

from fastvid.data.labels.part_folders import TRAIN
from fastvid.data.labels.ucf101 import by_listed_name, find_lists, listed_name, read_lists
from fastvid.data.pack.folder import video_files
from fastvid.data.pack.item import Collection, collect, file_item


def ucf101(src: Path, split: int = 1) -> dict[str, Collection]:
    """Collect the videos in class folders below ``src``.

    Args:
        src: holds the class folders; the split files are in it or beside it, or in a folder there.
        split: 1, 2 or 3 takes ``trainlist0X.txt`` and ``testlist0X.txt`` and makes the parts ``train`` and ``test``; 0
            makes one part of all videos.

    Raises:
        FileNotFoundError, ValueError: there are no such files, or one cannot be read; two videos have one name.
    """
    paths, notes = video_files(src)
    if split == 0:
        every = (file_item(src, path, size, label=PurePosixPath(path).parent.name) for path, size in paths)
        return {"": collect(src, every, notes=notes)}
    lists = find_lists(split, [src])
    if lists is None:
        raise FileNotFoundError(
            f"no trainlist{split:02d}.txt with testlist{split:02d}.txt in or beside {src}: put the split files there, "
            "or give --split 0"
        )
    sizes, by_name = dict(paths), by_listed_name([path for path, _ in paths])
    parts: dict[str, list] = {"train": [], "test": []}
    listed = read_lists(lists)
    for name, (part, path) in listed.items():
        file = by_name.get(name, path)
        label = PurePosixPath(path).parent.name
        parts["train" if part == TRAIN else "test"].append(file_item(src, file, sizes.get(file), label=label))
    spare = sum(listed_name(path) not in listed for path, _ in paths)
    if spare:
        notes = [*notes, f"{spare} videos that neither list names were passed over"]
    return {part: collect(src, items, notes=notes) for part, items in parts.items()}
