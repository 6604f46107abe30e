"""The index beside a tar shard: where each video lies, how long it is, and how to tell that it is still the same.

``train-000000.tar`` has ``train-000000.index.jsonl``: a header line, then one line per sample. With it a sample is one
read of known size; the tar itself stays an ordinary WebDataset shard.
"""

import json
import os
import tarfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from fastvid.data.source import VIDEO_SUFFIXES
from fastvid.video import DecodeError, probe

_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One sample of a shard.

    Attributes:
        key: the members' common name, up to the first dot of the file name (the WebDataset convention).
        offset: of the video's bytes in the tar.
        size: of the video, bytes.
        crc32: of those bytes.
        frames: frames shown, or None if the video could not be read when it was indexed.
        label: from the sample's ``.json`` (field ``label``) or ``.cls`` member, or None; a ``.txt`` is a caption.
    """

    key: str
    offset: int
    size: int
    crc32: int
    frames: int | None
    label: str | None


def index_path(shard: Path) -> Path:
    """Where the index of a shard is kept."""
    return shard.with_suffix(".index.jsonl")


def load_index(shard: Path) -> list[Entry]:
    """Reads the index of a shard; builds and stores it if there is none, or if the tar has changed its size since."""
    path = index_path(shard)
    size = shard.stat().st_size
    if path.exists():
        with path.open() as file:
            header = json.loads(file.readline())
            if header.get("version") == _VERSION and header.get("bytes") == size:
                entries = [Entry(**json.loads(line)) for line in file]
                if len(entries) == header["samples"]:
                    return entries
    entries = build_index(shard)
    save_index(shard, entries)
    return entries


def save_index(shard: Path, entries: list[Entry]) -> None:
    """Writes the index beside the shard, complete or not at all."""
    header = {"version": _VERSION, "shard": shard.name, "bytes": shard.stat().st_size, "samples": len(entries)}
    lines = [json.dumps(header), *(json.dumps(asdict(entry)) for entry in entries)]
    path = index_path(shard)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_text("\n".join(lines) + "\n")
    except OSError:
        return  # a read-only shard folder: the index is built anew each time
    os.replace(partial, path)


def build_index(shard: Path) -> list[Entry]:
    """Scans a tar once. Members that are not regular files, or belong to no video, are passed over."""
    groups: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, dot, suffix = name.partition(".")
                if member.isreg() and dot:
                    key = f"{folder}/{stem}" if folder else stem
                    groups.setdefault(key, {})[f".{suffix.lower()}"] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise ValueError(f"{shard} is not a readable tar file: {error}") from error
    entries = []
    with shard.open("rb") as file:

        def content(place: tuple[int, int]) -> bytes:
            file.seek(place[0])
            return file.read(place[1])

        for key, members in groups.items():
            video = next((members[s] for s in VIDEO_SUFFIXES if s in members), None)
            if video is None:
                continue
            data = content(video)
            label = _label({s: content(members[s]) for s in (".json", ".cls") if s in members}, f"{shard}: {key}")
            entries.append(Entry(key, *video, zlib.crc32(data), _frame_count(data), label))
    return entries


def _frame_count(data: bytes) -> int | None:
    try:
        return probe(data).frames
    except DecodeError:
        return None  # listed all the same, so that training meets it, names it and counts it


def _label(texts: dict[str, bytes], where: str) -> str | None:
    try:
        fields = json.loads(texts.get(".json", b"{}"))
        if isinstance(fields, dict) and fields.get("label") is not None:
            return str(fields["label"])
        return texts[".cls"].decode().strip() if ".cls" in texts else None
    except ValueError as error:  # bad JSON, or bytes that are no UTF-8
        raise ValueError(f"{where}: the label beside the video cannot be read: {error}") from error
