"""Writes videos to tar shards, one after the other."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastvid.data.shards.counts import Counts
from fastvid.data.shards.dataset_json import Dataset, ShardInfo
from fastvid.data.shards.entry import probe_indexable
from fastvid.data.shards.index import index_path, save_index
from fastvid.data.shards.tar_writer import TarShard
from fastvid.video import VideoMetadata


class ShardWriter:
    """Writes videos to tar shards with their indexes: ``<prefix>-000000.tar``, ``<prefix>-000000.index.jsonl``, ...

    A shard appears under its name only when it is complete. The same samples give the same bytes.

    Args:
        folder: created if missing.
        prefix: prefix of the file names.
        shard_bytes: a shard is closed when it has grown past this.

    Example:
        >>> with ShardWriter("out", "train") as writer:
        ...     writer.add("000000", ".mp4", data, label="linear")
    """

    def __init__(self, folder: str | Path, prefix: str, shard_bytes: int = 128 << 20):
        self.folder, self.prefix, self.shard_bytes = Path(folder), prefix, shard_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shards: list[Path] = []
        self._facts: list[ShardInfo] = []
        self._counts = Counts()
        self._shard: TarShard | None = None

    def add(
        self,
        key: str,
        suffix: str,
        video: bytes,
        label: str | None = None,
        caption: str | None = None,
        extra: Mapping[str, Any] | None = None,
        *,
        info: VideoMetadata | None = None,
    ) -> None:
        """Append one video.

        Args:
            key: unique in the data set.
            suffix: ending of its file name, such as ``".mp4"``.
            video: the whole file.
            label: its class.
            caption: description of it in words.
            extra: further fields of its ``.json``, such as ``conversations``.
            info: what :func:`fastvid.data.shards.entry.probe_indexable` found in it, if at hand.

        Raises:
            ValueError: a dot in the file name of ``key``, where WebDataset would end it.
            DecodeError: the video cannot be used.
        """
        info = info or probe_indexable(video)
        if self._shard is None:
            name = f"{self.prefix}-{len(self.shards):06d}.tar"
            self._shard = TarShard(self.folder / f"{name}.part", name)
        self._counts.add(self._shard.add(key, suffix, video, info, label, caption, extra))
        if self._shard.bytes >= self.shard_bytes:
            self.close()

    def close(self) -> None:
        """Complete the last shard."""
        if self._shard is None:
            return
        shard, self._shard = self._shard, None
        facts, index = shard.finish()
        path = self.folder / shard.name
        os.replace(shard.path, path)
        if not save_index(path, index):
            raise OSError(f"{index_path(path)} cannot be written")
        self.shards.append(path)
        self._facts.append(facts)

    def dataset(self, **made_by) -> Dataset:
        """Return the content of ``dataset.json`` for what was written so far, with ``made_by`` in it."""
        return self._counts.dataset(self._facts, made_by)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self.close()
        elif self._shard is not None:
            self._shard.abandon()
