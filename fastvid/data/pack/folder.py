"""Videos in a folder tree, labelled by the folder they are in."""

from pathlib import Path

from fastvid.data.labels.part_folders import folder_labels
from fastvid.data.pack.item import Collection, collect, file_item
from fastvid.data.walk import walk
from fastvid.names import spelled


def folder(src: Path) -> dict[str, Collection]:
    """Collect all videos below ``src``. The label is the name of the folder that a video is in, or None directly in
    ``src`` or in folders named train, val and test there.
    """
    paths, notes = video_files(src)
    labels = folder_labels([spelled(path) for path, _ in paths])
    items = (file_item(src, path, size, label=label) for (path, size), label in zip(paths, labels, strict=True))
    return {"": collect(src, items, notes=notes)}


def video_files(src: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """Return (relative path, size) of all videos below a folder, sorted, and a note on what was left out. Those in
    containers that are not read are listed too, so that they are counted and named as rejects.

    Raises:
        FileNotFoundError, ValueError: as :func:`fastvid.data.walk.walk`.
    """
    found = walk(src)
    note = found.left_out(refused=False)
    if found.tars and not found.videos:
        note += "; --format webdataset packs tar files"
    return sorted(found.videos + found.refused), [note] if note else []
