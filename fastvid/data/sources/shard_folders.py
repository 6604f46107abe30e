"""Folders of tar shards below a path, for training and the data commands alike."""

import logging
from pathlib import Path

from fastvid.data.labels.part_folders import part_of_folder
from fastvid.data.walk import Listing, shards_in, such_as, walk
from fastvid.names import spelled

log = logging.getLogger(__name__)


def shard_folders(path: Path) -> dict[str, Path]:
    """Find the folders of shards at a path.

    Returns:
        ``{"": path}`` for a folder that holds tar files itself; for one whose sub-folders train, val (valid,
        validation) or test hold them, as ``fastvid.data pack`` and the demo data set write them, these by name; nothing
        for anything else.

    Raises:
        ValueError: a folder cannot be read, or tar files or videos lie beside the parts.
    """
    if not path.is_dir():
        return {}
    if shards_in(path):
        return {"": path}
    parts = parts_with_shards(path)
    if not parts:
        return {}
    apart = walk(path).outside(parts)
    if apart.tars or apart.videos:
        names = such_as([*apart.tars, *(name for name, _ in apart.videos)])
        raise ValueError(
            f"{spelled(path)} holds the parts {', '.join(parts)} and, outside them, {names}: move that elsewhere, or "
            "give the folder of one part"
        )
    _log_left_out(apart)
    return parts


def parts_with_shards(path: Path) -> dict[str, Path]:
    """Return the sub-folders of a folder that are named train, val or test, by name, if tar files are in one of
    them."""
    parts = sorted(p for p in path.iterdir() if p.is_dir() and part_of_folder(p.name) is not None)
    return {part.name: part for part in parts} if any(shards_in(part) for part in parts) else {}


def require_only_shards(folder: Path) -> None:
    """Check that the tar files in a folder are its only videos, and log what else may hold some.

    Raises:
        ValueError: it holds videos too, or tar files in folders below it.
    """
    found = walk(folder)
    if found.videos:
        raise ValueError(
            f"{spelled(folder)} holds both tar files ({such_as(found.tars)}) and videos "
            f"({such_as([name for name, _ in found.videos])}): give a folder that holds only one of the two"
        )
    if deeper := [name for name in found.tars if "/" in name]:
        raise ValueError(
            f"{spelled(folder)} holds tar files, and so do folders below it ({such_as(deeper)}): all shards of a data "
            "set lie in one folder; move them together, or give the folder that is meant"
        )
    _log_left_out(found)


def _log_left_out(found: Listing) -> None:
    """Log what may hold videos beside shards. Indexes and other files are not mentioned."""
    if sentence := found.left_out(tars=False, rest=False):
        log.warning("%s: %s", spelled(found.root), sentence)
