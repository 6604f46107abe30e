"""Totals of a data set, counted entry by entry."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastvid.data.shards.dataset_json import Dataset, ShardInfo
from fastvid.data.shards.entry import Entry


@dataclass
class Counts:
    """The sums of :class:`fastvid.data.Dataset`; its attributes have the same names and meanings."""

    labels: dict[str, int] = field(default_factory=dict)
    captions: int = 0
    codecs: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    seconds: float = 0.0
    video_bytes: int = 0
    described: int = 0

    @staticmethod
    def from_entries(entries: Iterable[Entry]) -> "Counts":
        """Count some entries."""
        counts = Counts()
        for entry in entries:
            counts.add(entry)
        return counts

    def add(self, entry: Entry) -> None:
        """Count one video."""
        if entry.label is not None:
            _add(self.labels, entry.label, 1)
        self.captions += entry.caption is not None
        self.described += entry.fields is not None
        codec = "text" if entry.text_alone else "unreadable" if entry.video is None else entry.video.codec
        _add(self.codecs, codec, 1)
        self.video_bytes += entry.size
        if entry.video is not None:
            self.frames += entry.video.frames
            self.seconds += entry.video.duration

    def merge(self, other: "Counts") -> None:
        """Add the counts of another part."""
        for label, count in other.labels.items():
            _add(self.labels, label, count)
        self.captions += other.captions
        for codec, count in other.codecs.items():
            _add(self.codecs, codec, count)
        self.frames += other.frames
        self.seconds += other.seconds
        self.video_bytes += other.video_bytes
        self.described += other.described

    def dataset(self, shards: Sequence[ShardInfo], made_by: dict[str, Any]) -> Dataset:
        """Return the counts of these shards as the content of ``dataset.json``."""
        return Dataset(
            shards=tuple(shards),
            labels=dict(sorted(self.labels.items())),
            captions=self.captions,
            codecs=dict(sorted(self.codecs.items())),
            frames=self.frames,
            seconds=round(self.seconds, 3),
            video_bytes=self.video_bytes,
            described=self.described,
            made_by=made_by,
        )


def _add(counts: dict[str, int], name: str, count: int) -> None:
    counts[name] = counts.get(name, 0) + count
