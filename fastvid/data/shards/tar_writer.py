"""Writes one tar shard, with checksums taken on the way."""

import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastvid.data.shards.dataset_json import ShardInfo
from fastvid.data.shards.entry import Entry, Place
from fastvid.data.shards.index import index_bytes
from fastvid.data.shards.picture_samples import LATENTS_SUFFIX
from fastvid.video import VideoMetadata
from fastvid.video.picture_archive import PICTURES, open_pictures


class TarShard:
    """A tar that is being written.

    Args:
        path: path of the unfinished file; an existing one is replaced.
        name: the file name that the tar will have.
    """

    def __init__(self, path: Path, name: str):
        self.path, self.name, self.bytes = path, name, 0
        self.entries: list[Entry] = []
        self._file, self._sha256 = path.open("wb"), hashlib.sha256()

    def add(
        self,
        key: str,
        suffix: str,
        video: bytes,
        info: VideoMetadata | None,
        label: str | None = None,
        caption: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Append a video, and a ``.json`` member where there is something to say of it. A video of pictures becomes a
        member for each (:mod:`fastvid.video.picture_archive`), and its latents one more. Without ``info`` it is a text
        alone, which ``extra`` holds.

        Raises:
            ValueError: a dot in the file name of ``key``, where WebDataset would end it, or too long a name.
        """
        if "." in key.rpartition("/")[2]:
            raise ValueError(f"the key {key!r} holds a dot, and readers of WebDataset shards end keys at the first dot")
        texts = {name: text for name, text in (("label", label), ("caption", caption)) if text is not None}
        members = {} if info is None else {suffix: video}
        pictures: list[str] = []
        if info is not None and info.codec == PICTURES:
            archive = open_pictures(video)
            members = dict(archive.pictures)
            pictures = list(members)
            if archive.latents is not None:
                members[LATENTS_SUFFIX] = archive.latents
        if texts or extra:
            members[".json"] = json.dumps({**(extra or {}), **texts}).encode()
        blocks = {s: tar_header(key + s, len(data)) for s, data in members.items()}  # all are good, or none is written
        begin, offsets, crc = self.bytes, {}, 0
        for s, header in blocks.items():
            offsets[s] = self.bytes + len(header)
            for part in (header, members[s], bytes(-len(members[s]) % tarfile.BLOCKSIZE)):
                self._write(part)
                crc = zlib.crc32(part, crc)
        places = {s: Place(offsets[s], len(data), zlib.crc32(data)) for s, data in members.items()}
        # Pictures are read together with their headers, which number them.
        at = Place(begin, self.bytes - begin, crc) if pictures else places[".json" if info is None else suffix]
        entry = Entry(
            key, at.offset, at.size, at.crc32, info, label, caption, places[".json"] if extra else None,
            text_alone=info is None, latents=places.get(LATENTS_SUFFIX), pictures=tuple(places[s] for s in pictures),
        )  # fmt: skip
        self.entries.append(entry)
        return entry

    def finish(self) -> tuple[ShardInfo, bytes]:
        """End the tar, sync it to the disk, and return its facts and the content of its index."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self.bytes % tarfile.RECORDSIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        index = index_bytes(self.name, self.bytes, self.entries)
        facts = ShardInfo(
            self.name, len(self.entries), self.bytes, self._sha256.hexdigest(),
            len(index), hashlib.sha256(index).hexdigest(),
        )  # fmt: skip
        return facts, index

    def abandon(self) -> None:
        """Remove the unfinished file."""
        try:
            self._file.close()
        except OSError:  # what is left in its buffer does not fit on the disk either
            pass
        finally:
            self.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self.bytes += len(data)


def tar_member(name: str, data: bytes) -> bytes:
    """Return a regular member: its header, its bytes, and zeros up to the next block."""
    return tar_header(name, len(data)) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def tar_header(name: str, size: int) -> bytes:
    """Return the header of a regular member: mode 0644, no owner, time 0, nothing that varies.

    Raises:
        ValueError: the name is too long for it.
    """
    header = tarfile.TarInfo(name)
    header.size = size
    return header.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
