"""Leaks between the parts of a split: groups on both sides, and identical files."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from fastvid.data.labels.part_folders import PART_NAMES, TEST, TRAIN, VAL
from fastvid.data.source import Source
from fastvid.data.splits.groups import GroupOf
from fastvid.data.splits.protocols import Video
from fastvid.video import DecodeError

_MOST_READ = 256 << 20  # bytes of loose files that are read to compare them
_PAIRS = ((TRAIN, VAL), (TRAIN, TEST), (VAL, TEST))


def group_leaks(parts: Sequence[Sequence[Video]], group_of: GroupOf) -> list[str]:
    """Describe groups that have videos in training and in validation or test."""
    groups = [_by(part, lambda video: group_of(video.name)) for part in parts]
    leaks = []
    for part in (VAL, TEST):
        both = sorted(groups[TRAIN].keys() & groups[part].keys())
        if both:
            videos = sum(len(groups[part][group]) for group in both)
            one, name = both[0], PART_NAMES[part]
            leaks.append(
                f"train and {name} share {len(both)} of the {len(groups[part])} groups in {name}, such as {one!r} "
                f"({groups[TRAIN][one][0].key} and {groups[part][one][0].key}), which is {videos} of the "
                f"{len(parts[part])} videos there"
            )
    return leaks


def same_files(parts: Sequence[Sequence[Video]], source: Source) -> tuple[list[str], list[str]]:
    """Describe videos that are in two parts byte for byte.

    Files of equal size are compared: by the checksum in their index, or by reading them, as many as fit into 256 MiB.

    Returns:
        (what was found, what was not compared).
    """
    sized = [_by(part, lambda video: _size(source, video)) for part in parts]
    digests: dict[int, object] = {}
    budget = _MOST_READ
    unread = 0
    for size in sorted({size for a, b in _PAIRS for size in sized[a].keys() & sized[b].keys()}):
        for video in (video for part in sized for video in part.get(size, ())):
            if video.crc32 is not None:
                digests[video.index] = (size, "crc32", video.crc32)
            elif size > budget:
                unread += 1
            else:
                budget -= size
                digest = _digest(source, video)
                if digest is not None:
                    digests[video.index] = (size, "blake2b", digest)
    found = [_by(part, lambda video: digests.get(video.index)) for part in parts]
    leaks = []
    for a, b in _PAIRS:
        both = [(found[a][d][0], video) for d in found[a].keys() & found[b].keys() for video in found[b][d]]
        if both:
            first, second = min(both, key=lambda pair: pair[1].index)
            name = PART_NAMES[b]
            leaks.append(
                f"{PART_NAMES[a]} and {name} hold the same files: {len(both)} of the {len(parts[b])} videos in {name}, "
                f"such as {second.key}, which is {first.key}"
            )
    notes = [f"{unread} files of the same size as others were not compared: reading them takes long"] if unread else []
    return leaks, notes


def _by(part: Iterable[Video], what: Callable[[Video], object]) -> dict:
    """Group videos by a value; videos without one are left out."""
    found = defaultdict(list)
    for video in part:
        value = what(video)
        if value is not None:
            found[value].append(video)
    return dict(found)


def _size(source: Source, video: Video) -> int | None:
    if video.size is not None:
        return video.size
    try:
        return source.size(video.index)
    except DecodeError:
        return None  # training meets it, names it and counts it


def _digest(source: Source, video: Video) -> bytes | None:
    try:
        return hashlib.blake2b(source.read(video.index), digest_size=16).digest()
    except DecodeError:
        return None
