"""Video files below a folder, found the same way for training, packing, evaluation and caching."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fastvid.data.ntu_names import stream_of
from fastvid.data.source import VIDEO_SUFFIXES
from fastvid.names import spelled

REFUSED_SUFFIXES = (".3gp", ".asf", ".flv", ".m2ts", ".mpeg", ".mpg", ".mts", ".ogv", ".rmvb", ".ts", ".vob", ".wmv")
"""Videos too, in containers that are not read."""

MISSING = -1
"""The size of a video that is a link to nothing."""

UNPACK = "videos in a compressed archive are not read: unpack it, or make a plain .tar of a .tar.gz with gunzip"
"""Advice about compressed archives."""

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".zip", ".rar", ".7z")
_OF_THE_SYSTEM = ("__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information", "@eaDir")


@dataclass
class Listing:
    """The content of a folder. Paths are relative to it, with slashes, sorted.

    Attributes:
        root: the folder.
        videos: path and size in bytes of each video; :data:`MISSING` for a link to nothing.
        refused: likewise, of videos in containers that are not read.
        infrared: infrared videos of NTU RGB+D beside its RGB videos.
        tars: tar files.
        compressed: compressed archives.
        others: number of other files.
        hidden: number of hidden files and folders, and of those that macOS, Windows or a file system makes for itself.
        circles: links to a folder that holds them.
        empty: folders with neither videos nor tar files anywhere below; of nested ones, the outermost.
    """

    root: Path
    videos: list[tuple[str, int]] = field(default_factory=list)
    refused: list[tuple[str, int]] = field(default_factory=list)
    infrared: list[str] = field(default_factory=list)
    tars: list[str] = field(default_factory=list)
    compressed: list[str] = field(default_factory=list)
    others: int = 0
    hidden: int = 0
    circles: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def outside(self, folders: Collection[str]) -> "Listing":
        """Return what lies in none of these folders of the root. Hidden and other files have no names: none are
        counted."""

        def apart(paths: Sequence[str]) -> list[str]:
            return [path for path in paths if path.partition("/")[0] not in folders]

        return Listing(
            self.root,
            videos=[video for video in self.videos if apart([video[0]])],
            refused=[video for video in self.refused if apart([video[0]])],
            infrared=apart(self.infrared),
            tars=apart(self.tars),
            compressed=apart(self.compressed),
            circles=apart(self.circles),
            empty=apart(self.empty),
        )

    def left_out(self, *, refused: bool = True, tars: bool = True, rest: bool = True) -> str:
        """Count in one sentence what was found and is not a video to read; return "" where there is nothing to say.

        Args:
            refused: also count the videos in containers that are not read.
            tars: also count tar files.
            rest: also count what can hold no videos: empty folders, hidden files and others.
        """
        parts = []
        if refused and self.refused:
            kinds = ", ".join(sorted({PurePosixPath(path).suffix.lower() for path, _ in self.refused}))
            parts.append(f"{_count(len(self.refused), 'video')} in containers that are not read ({kinds})")
        for paths, one, more in (
            (self.infrared, "infrared video of NTU RGB+D", "infrared videos of NTU RGB+D"),
            (self.tars if tars else [], "tar file", "tar files"),
            (self.compressed, "compressed archive", "compressed archives"),
            (self.circles, "link to a folder that holds it", "links to folders that hold them"),
            (self.empty if rest else [], "folder without videos", "folders without videos"),
        ):
            if paths:
                parts.append(f"{len(paths)} {one if len(paths) == 1 else more} ({such_as(paths)})")
        if rest and self.hidden:
            parts.append(f"{self.hidden} hidden")
        if rest and self.others:
            parts.append(_count(self.others, "other file"))
        advice = f"; {UNPACK}" if self.compressed else ""
        return f"left out: {', '.join(parts)}{advice}" if parts else ""


def walk(root: Path) -> Listing:
    """List the videos below a folder.

    A video is a file whose name ends in one of :data:`fastvid.data.source.VIDEO_SUFFIXES`, upper or lower case. Links
    are followed; a link to a folder that holds it is not entered. Hidden names, which begin with a dot, and what
    operating systems leave behind (``__MACOSX`` and the like) are passed over. Where there are RGB videos of NTU RGB+D,
    its infrared ones are too.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a folder cannot be read, or a link that may have been a folder leads nowhere.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{spelled(root)} is not a folder: give the folder that holds the videos")
    found = Listing(root)
    _enter(root, "", (), found)
    found.videos.sort()
    found.refused.sort()
    for paths in (found.tars, found.compressed, found.circles, found.empty):
        paths.sort()
    streams = [stream_of(path) for path, _ in found.videos]
    if "rgb" in streams and "ir" in streams:
        found.infrared = [path for (path, _), what in zip(found.videos, streams, strict=True) if what == "ir"]
        found.videos = [video for video, what in zip(found.videos, streams, strict=True) if what != "ir"]
    return found


def shards_in(folder: Path) -> list[Path]:
    """Return the tar files in a folder itself, sorted, without hidden ones.

    Raises:
        ValueError: the folder cannot be read.
    """
    return [folder / e.name for e in sorted(_entries(folder), key=lambda e: e.name) if _is_tar(e) and e.is_file()]


def _enter(folder: Path, prefix: str, above: Sequence[tuple[int, int]], found: Listing) -> None:
    status = os.stat(folder)
    this = (status.st_dev, status.st_ino)
    if this in above:
        found.circles.append(prefix.rstrip("/"))
        return
    before, inner = len(found.videos) + len(found.tars), len(found.empty)
    for entry in _entries(folder):
        if _hidden(entry.name):
            found.hidden += 1
            continue
        path = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            _enter(folder / entry.name, f"{path}/", (*above, this), found)
        elif not entry.is_symlink() or _leads_nowhere(entry, path, found.root):
            _sort_in(entry, path, found)
        elif entry.is_dir():
            _enter(folder / entry.name, f"{path}/", (*above, this), found)
        else:
            _sort_in(entry, path, found)
    if prefix and len(found.videos) + len(found.tars) == before:
        del found.empty[inner:]
        found.empty.append(prefix.rstrip("/"))


def _sort_in(entry: os.DirEntry, path: str, found: Listing) -> None:
    name = entry.name.lower()
    if name.endswith(VIDEO_SUFFIXES + REFUSED_SUFFIXES) and _regular(entry):
        videos = found.videos if name.endswith(VIDEO_SUFFIXES) else found.refused
        videos.append((path, _size(entry)))
    elif _is_tar(entry):
        found.tars.append(path)
    elif name.endswith(_COMPRESSED):
        found.compressed.append(path)
    else:
        found.others += 1


def _leads_nowhere(link: os.DirEntry, path: str, root: Path) -> bool:
    """Return whether a link's target cannot be found. Raise ValueError for one that may have been a folder."""
    try:
        link.stat()
    except OSError as error:
        if link.name.lower().endswith(VIDEO_SUFFIXES + REFUSED_SUFFIXES):
            return True  # a video that cannot be read: it is named and counted where it is needed
        raise ValueError(
            f"{spelled(root / path)} is a link that cannot be followed ({error.strerror}), perhaps to a folder of "
            "videos: mend the link, or remove it"
        ) from error
    return False


def _regular(entry: os.DirEntry) -> bool:
    """Return whether it is a file, rather than a pipe or a device; a link to nothing counts as one."""
    try:
        return entry.is_file() or (entry.is_symlink() and _size(entry) == MISSING)
    except OSError:
        return True


def _size(entry: os.DirEntry) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return MISSING


def _entries(folder: Path) -> Iterator[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise ValueError(
            f"{spelled(folder)} cannot be read ({error.strerror}): its videos would be missing. Give this user access "
            "to the folder, or take it out of the data"
        ) from error


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _OF_THE_SYSTEM


def _is_tar(entry: os.DirEntry) -> bool:
    return entry.name.endswith(".tar") and not _hidden(entry.name)


def such_as(paths: Sequence[str]) -> str:
    """Return the first few paths, for messages."""
    named = ", ".join(spelled(path) for path in paths[:3])
    return f"{named}, ..." if len(paths) > 3 else named


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
