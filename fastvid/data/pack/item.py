"""The videos of a collection, before they are packed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """

    key: str
    path: str
    size: int = 0
    label: str | None = None
    caption: str | None = None
    offset: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
    member: str = ""

    @property
    def where(self) -> str:
        """Return the video's place, for messages."""
        return f"{self.path}!{self.member}" if self.member else self.path

    def line(self) -> list[Any]:
        """Return the values that identify the same video in an earlier run."""
        return [self.where, self.offset, self.size, self.key, self.label, self.caption, dict(self.extra)]


@dataclass(frozen=True)
class Collection:
    """Videos that become one folder of shards.

    Attributes:
        root: folder that the paths are relative to.
        items: the videos, with different keys.
        archives: tar or tar.gz files that hold them, when they are not files of their own.
        notes: sentences about what was passed over, for the user.
    """

    root: Path
    items: Sequence[Item]
    archives: Sequence[Path] = ()
    notes: Sequence[str] = ()


def collect(root: Path, items: Iterable[Item], archives: Sequence[Path] = (), notes: Sequence[str] = ()) -> Collection:
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
