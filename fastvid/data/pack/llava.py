"""LLaVA-Video: json lists of conversations, and tar.gz archives that hold the videos."""

import gzip
import json
import posixpath
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fastvid.data.labels.delimited import read_text
from fastvid.data.pack.item import Collection, Item, collect
from fastvid.data.shards.keys import key_of
from fastvid.data.shards.tar_reader import tar_members
from fastvid.data.walk import walk
from fastvid.video import Limits

_GZIP = b"\x1f\x8b"
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")
ARCHIVE_ERRORS = (ValueError, OSError, EOFError, zlib.error)


def llava(src: Path) -> dict[str, Collection]:
    """Collect the videos that the json files below ``src`` name, to be read from the archives below ``src``.

    The caption is the first answer of the first conversation about a video; lists whose name holds ``cap`` come first.
    """
    lists = sorted(src.rglob("*.json"), key=lambda path: ("cap" not in path.name, path.as_posix()))
    found = walk(src)
    archives = sorted(
        src / name for name in (*found.tars, *found.compressed) if name.lower().endswith(ARCHIVE_SUFFIXES)
    )
    if not lists or not archives:
        raise FileNotFoundError(f"{src} must hold json lists and tar.gz archives; found {len(lists)}, {len(archives)}")
    captions: dict[str, str | None] = {}
    further = 0
    for path in lists:
        for entry in _entries(path):
            video = posixpath.normpath(entry["video"])
            further += video in captions
            captions.setdefault(video, _answer(entry, path))
    items = (Item(key_of(video), video, caption=caption) for video, caption in captions.items())
    notes = [f"{further} further conversations about the same videos were not kept"] if further else []
    return {"": collect(src, items, archives, notes)}


def read_archive(archive: Path, wanted: dict[str, int], skip: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Read an archive once, as a stream; memory for one video.

    Args:
        archive: a tar, compressed by gzip or not.
        wanted: position of each video's path in the collection. A member may have more folders in front.
        skip: number of wanted members to pass over.

    Yields:
        (number of the wanted member in the archive, position in the collection, size, bytes). A video over the limits
        comes without its bytes.

    Raises:
        ValueError, OSError, EOFError, zlib.error: the archive is damaged or cut short.
    """
    number = 0
    with _open(archive) as file:
        for member in tar_members(file, str(archive), None, lambda sentence: None):
            position = _position(member.name, wanted)
            if position is None:
                continue
            number += 1
            if number <= skip:
                continue
            data = file.read(member.size) if member.size <= Limits().bytes else b""
            if data and len(data) < member.size:
                raise EOFError(f"{archive} is cut short in {member.name}")
            yield number, position, member.size, data


def _open(archive: Path) -> BinaryIO:
    with archive.open("rb") as file:
        compressed = file.read(2) == _GZIP
    return gzip.open(archive, "rb") if compressed else archive.open("rb")  # type: ignore[return-value]


def _position(name: str, wanted: dict[str, int]) -> int | None:
    while name:
        if name in wanted:
            return wanted[name]
        name = name.partition("/")[2]
    return None


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    text = read_text(path)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, list):
        raise ValueError(f"{path}: a list of conversations is expected")
    for entry in content:
        if not isinstance(entry, dict):
            raise ValueError(f"{path}: not a conversation: {entry!r:.80}")
        if isinstance(entry.get("video"), str):
            yield entry


def _answer(entry: dict[str, Any], path: Path) -> str | None:
    try:
        return next((turn["value"].strip() for turn in entry["conversations"] if turn["from"] == "gpt"), None)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: the entry for {entry['video']} has no conversations with from and value") from error
