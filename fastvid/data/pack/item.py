"""The videos of a collection, before they are packed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fastvid.data.pack.archive import Archive
from fastvid.data.shards.keys import key_of
from fastvid.data.walk import MISSING
from fastvid.names import spelled


@dataclass(frozen=True)
class Item:
    """One video of a collection.

    Attributes:
        key: in the shards.
        path: path of the file that holds it, below the collection's root; for archives, the member's name.
        member: its name in that file, where that is a tar.
        size: bytes, :data:`MISSING` where there is no such file, 0 where only reading an archive tells.
        label: its class, or None.
        caption: description of the video in words, or None.
        offset: offset of its bytes in that file.
        extra: further fields for the sample's ``.json``.
        text_alone: whether it is a text without a video, which ``extra`` holds.
    """

    key: str
    path: str
    size: int = 0
    label: str | None = None
    caption: str | None = None
    offset: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
    member: str = ""
    text_alone: bool = False

    @property
    def where(self) -> str:
        """Return the video's place, for messages."""
        return f"{self.path}!{self.member}" if self.member else self.path

    def line(self) -> list[Any]:
        """Return the values that identify the same video in an earlier run."""
        return [self.where, self.offset, self.size, self.key, self.label, self.caption, dict(self.extra)]


@dataclass(frozen=True)
class Row:
    """One sample of a stream: the item with its bytes, or why it cannot be used."""

    item: Item
    data: bytes | None = None
    failed: str | None = None


class Rows(Protocol):
    """Samples that come one after the other and are not listed before.

    Attributes:
        count: how many there are, 0 where that is not known.
    """

    count: int

    def begin(self, first: int) -> Iterator[Row]:
        """Yield the samples from the ``first``-th on."""
        ...


@dataclass(frozen=True)
class Collection:
    """Videos that become one folder of shards.

    Attributes:
        root: folder that the paths are relative to.
        items: the videos, with different keys.
        archives: tar or tar.gz files that hold them, when they are not files of their own.
        notes: sentences about what was passed over, for the user.
        rows: the videos, in the place of ``items``, where they come as a stream.
    """

    root: Path
    items: Sequence[Item]
    archives: Sequence[Archive] = ()
    notes: Sequence[str] = ()
    rows: Rows | None = None


def collect(
    root: Path, items: Iterable[Item], archives: Sequence[Archive] = (), notes: Sequence[str] = ()
) -> Collection:
    """Make a collection of these items, sorted by key.

    Raises:
        ValueError: there are none, or two have the same key.
    """
    found: dict[str, Item] = {}
    for item in items:
        other = found.setdefault(item.key, item)
        if other is not item:
            raise ValueError(
                f"{spelled(other.where)} and {spelled(item.where)} would both be the sample {item.key!r} (a key is the "
                "path without its ending, with _ for dots): rename one of them, or list it once"
            )
    if not found:
        raise ValueError(f"no videos found in {spelled(root)}" + "".join(f"; {note}" for note in notes))
    return Collection(root, [found[key] for key in sorted(found)], archives, notes)


def file_item(root: Path, path: str, size: int | None = None, **facts: Any) -> Item:
    """Make the item for a file; ``size`` saves asking the file system."""
    if size is None:
        try:
            size = (root / path).stat().st_size
        except OSError:
            size = MISSING
    return Item(key_of(path), path, size, **facts)
