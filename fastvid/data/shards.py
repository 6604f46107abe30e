"""Videos in WebDataset tar shards: written one after the other, read by offset."""

import io
import json
import os
import tarfile
import zlib
from pathlib import Path

from fastvid.data.shard_index import Entry, load_index, save_index
from fastvid.data.source import Sample
from fastvid.video import DecodeError, probe


class ShardSource:
    """Videos in tar shards. A sample's key is ``<shard name>/<member name>``.

    A read takes memory for one video, whatever the size of the shard, and its checksum is compared: FFmpeg would decode
    flipped bits without a word.

    Args:
        shards: the tar files, in order.
    """

    def __init__(self, shards: list[Path]):
        self.samples: list[Sample] = []
        self.shard_sizes: list[int] = []
        self._places: list[tuple[Path, Entry]] = []
        for shard in shards:
            entries = load_index(shard)
            self.shard_sizes.append(len(entries))
            for entry in entries:
                self.samples.append(Sample(f"{shard.stem}/{entry.key}", entry.label, entry.frames))
                self._places.append((shard, entry))
        if not self.samples:
            raise ValueError(f"no videos in the tar files of {shards[0].parent}")
        self.description = f"{len(self.samples)} videos in {len(shards)} tar shards in {shards[0].parent}"

    def size(self, index: int) -> int:
        return self._places[index][1].size

    def read(self, index: int) -> bytes:
        shard, entry = self._places[index]
        try:
            with shard.open("rb") as file:
                file.seek(entry.offset)
                data = file.read(entry.size)
        except OSError as error:
            raise DecodeError("read", f"{shard}: {error.strerror or error}") from error
        if len(data) != entry.size or zlib.crc32(data) != entry.crc32:
            raise DecodeError(
                "checksum", f"{entry.size} bytes at {entry.offset} of {shard} are not those that were indexed"
            )
        return data


class ShardWriter:
    """Writes videos to tar shards with their indexes: ``<prefix>-000000.tar``, ``<prefix>-000000.index.jsonl``, ...

    A shard appears under its name only when it is complete. The same samples give the same bytes.

    Args:
        folder: created if missing.
        prefix: of the file names.
        shard_bytes: a shard is closed when it has grown past this.

    Example:
        >>> with ShardWriter("out", "train") as writer:
        ...     writer.add("000000", ".mp4", data, label="linear")
    """

    def __init__(self, folder: str | Path, prefix: str, shard_bytes: int = 128 << 20):
        self.folder, self.prefix, self.shard_bytes = Path(folder), prefix, shard_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shards: list[Path] = []
        self._tar: tarfile.TarFile | None = None
        self._entries: list[Entry] = []

    def add(self, key: str, suffix: str, video: bytes, label: str | None = None) -> None:
        """Appends one video; ``suffix`` is its file name's, such as ``".mp4"``.

        Raises:
            ValueError: a dot in the file name of ``key``, where WebDataset would end it.
        """
        if "." in key.rpartition("/")[2]:
            raise ValueError(f"the key {key!r} holds a dot, and readers of WebDataset shards end keys at the first dot")
        if self._tar is None:
            self._open()
        assert self._tar is not None
        offset = self._member(key + suffix, video)
        if label is not None:
            self._member(key + ".json", json.dumps({"label": label}).encode())
        self._entries.append(Entry(key, offset, len(video), zlib.crc32(video), probe(video).frames, label))
        if self._tar.offset >= self.shard_bytes:
            self._close_shard()

    def close(self) -> None:
        """Completes the last shard."""
        if self._tar is not None:
            self._close_shard()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self.close()
        elif self._tar is not None:
            self._tar.close()
            self._partial.unlink()

    def _open(self) -> None:
        shard = self.folder / f"{self.prefix}-{len(self.shards):06d}.tar"
        self._partial = shard.with_name(shard.name + ".part")
        self._tar = tarfile.open(self._partial, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 (closed in close)
        self._entries = []

    def _member(self, name: str, data: bytes) -> int:
        assert self._tar is not None
        header = tarfile.TarInfo(name)  # mode 0644, no owner, time 0: nothing that varies
        header.size = len(data)
        self._tar.addfile(header, io.BytesIO(data))
        return self._tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

    def _close_shard(self) -> None:
        assert self._tar is not None
        self._tar.close()
        self._tar = None
        shard = self._partial.with_suffix("")
        os.replace(self._partial, shard)
        save_index(shard, self._entries)
        self.shards.append(shard)
