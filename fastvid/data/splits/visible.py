"""Detection of the split that a data set has already: in a table, folders, shards, lists or names."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fastvid.data.labels.hmdb51 import find_hmdb_lists
from fastvid.data.labels.part_folders import find_part_folders, folders_of, is_split, part_of_shard
from fastvid.data.labels.ucf101 import find_lists, is_ucf, read_lists
from fastvid.data.ntu_names import parse_ntu
from fastvid.data.splits.protocols import Video

AUTO = "auto"
"""The protocol that takes the split which a data set shows."""


@dataclass
class Facts:
    """The facts about all videos from one pass: a few names, however many videos there are."""

    lists: set[str] = field(default_factory=set)
    listed_parts: set[int | None] = field(default_factory=set)
    folders: set[tuple[str, ...]] = field(default_factory=set)
    shards: set[str] = field(default_factory=set)
    roots: set[Path] = field(default_factory=set)
    ntu: bool = True
    ucf: bool = True
    one: str = ""

    @staticmethod
    def from_videos(videos: Iterable[Video]) -> "Facts":
        """Collect the facts about videos."""
        facts = Facts()
        for video in videos:
            facts.one = facts.one or video.name
            if not video.unlisted:
                facts.listed_parts.add(video.listed_part)
            if video.listed is not None:
                facts.lists.add(video.listed)
            if video.folder is not None:
                facts.roots.add(video.folder)
            if video.crc32 is not None:
                facts.shards.add(video.key.partition("/")[0])
            facts.folders.add(folders_of(video.name))
            facts.ucf = facts.ucf and is_ucf(video.name)
            facts.ntu = facts.ntu and parse_ntu(video.name) is not None
        return facts


@dataclass(frozen=True)
class VisibleSplit:
    """A split that a data set shows: its protocol, and half a sentence on what shows it."""

    protocol: str
    why: str


def visible_split(facts: Facts, lists: Path | None) -> VisibleSplit | None:
    """Return the split that a data set shows, or None. The first in this order decides, and ``why`` names the others:

    1. UCF-101's lists in a folder that was named;
    2. the column ``split`` of the table of labels, or the lists of Something-Something V2;
    3. folders named train and val or test, at one level of the paths;
    4. shards named so;
    5. UCF-101's lists in or beside the folder, if they list a video of it;
    6. HMDB-51's lists in or beside the folder, if every class folder is one of theirs;
    7. names as in NTU RGB+D.

    Args:
        facts: facts of the videos.
        lists: folder of UCF-101's lists, where one was named.
    """
    found = list(_visible(facts, lists))
    if not found:
        return None
    first, *others = found
    if not others:
        return first
    said = "; ".join(f"{other.why} (protocol {other.protocol})" for other in others)
    return VisibleSplit(first.protocol, f"{first.why}, which comes before what is visible too: {said}")


def _visible(facts: Facts, lists: Path | None) -> Iterable[VisibleSplit]:
    if lists is not None:
        yield VisibleSplit(_ucf(facts, lists) or "ucf101-1", f"{lists} was named for the lists of UCF-101")
    if is_split(facts.listed_parts):
        yield VisibleSplit("table", f"{' and '.join(sorted(facts.lists))} says the part of each video")
    parts = find_part_folders(facts.folders)
    if parts is not None:
        named = sorted({path[parts.level] for path in facts.folders if parts.part(path) is not None})
        yield VisibleSplit("folders", f"there are folders named {', '.join(named)}")
    by_shard = {name: part_of_shard(name) for name in facts.shards}
    if None not in by_shard.values() and is_split(by_shard.values()):
        yield VisibleSplit(
            "folders", f"there are shards named {', '.join(sorted(facts.shards)[:: len(facts.shards) - 1])}"
        )
    if lists is None and (protocol := _ucf(facts, None)) is not None:
        yield VisibleSplit(protocol, "the lists of UCF-101 are in or beside the folder of the videos")
    if (protocol := _hmdb(facts)) is not None:
        yield VisibleSplit(protocol, "the lists of HMDB-51 are in or beside the folder of the videos")
    if facts.ntu and facts.one:
        yield VisibleSplit("ntu-subject", f"the videos are named as in NTU RGB+D, such as {facts.one!r}")


def _ucf(facts: Facts, lists: Path | None) -> str | None:
    """Return the protocol of the first of the three official splits whose lists are there and fit."""
    folders = sorted(facts.roots) if lists is None else [lists]
    for split in (1, 2, 3):
        # Lists beside the folder are looked at for videos of UCF-101 alone: they may be another data set's.
        found = find_lists(split, folders, beside=lists is None and facts.ucf)
        if found is not None:
            classes = {name.partition("/")[0] for name in read_lists(found)}
            if lists is not None or classes & {path[-1].lower() for path in facts.folders if path}:
                return f"ucf101-{split}"
    return None


def _hmdb(facts: Facts) -> str | None:
    """Return the protocol of the first of HMDB-51's three splits whose lists are there and know all classes."""
    classes = {path[-1] for path in facts.folders if path}
    for split in (1, 2, 3):
        if classes and classes <= find_hmdb_lists(split, sorted(facts.roots), of=min(classes)).keys():
            return f"hmdb51-{split}"
    return None
