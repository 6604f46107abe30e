"""Videos in a folder tree, labelled by the folder they are in."""

import os
from collections.abc import Iterator
from pathlib import Path

from fastvid.data.delimited import is_video
from fastvid.data.pack.item import MISSING, Collection, collect, file_item
from fastvid.data.part_folders import folder_labels


def folder(src: Path) -> dict[str, Collection]:
    """All videos below ``src``; the label is the name of the folder a video is in, None directly in ``src`` or in
    folders named train, val and test there."""
    paths, others = video_files(src)
    labels = folder_labels([path for path, _ in paths])
    items = (file_item(src, path, size, label=label) for (path, size), label in zip(paths, labels, strict=True))
    return {"": collect(src, items, notes=passed_over(others))}


def video_files(src: Path) -> tuple[list[tuple[str, int]], int]:
    """(relative path, size) of all videos below a folder, sorted, and how many other files there are."""
    if not src.is_dir():
        raise FileNotFoundError(f"{src} is no folder: give the folder that holds the videos")
    found, others = [], 0
    for path, entry in _walk(src, ""):
        if is_video(path):
            try:
                found.append((path, entry.stat().st_size))
            except FileNotFoundError:  # a link that leads nowhere
                found.append((path, MISSING))
        else:
            others += 1
    return sorted(found), others


def passed_over(count: int) -> list[str]:
    """The note on files that are no videos."""
    return [f"{count} files that are no videos were passed over"] if count else []


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[tuple[str, os.DirEntry]]:
    """Files below a folder; links are followed, folders whose names start with a dot are not entered."""
    status = os.stat(folder)
    this = (status.st_dev, status.st_ino)
    if this in above:
        raise ValueError(f"{folder} is a link to a folder that holds it: remove the link")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if not entry.name.startswith("."):
                    yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", (*above, this))
            elif entry.is_file() or entry.is_symlink():
                yield prefix + entry.name, entry
