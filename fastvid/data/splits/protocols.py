"""Split protocols: functions from videos to training, validation and test."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fastvid.data.labels.hmdb51 import hmdb_parts
from fastvid.data.labels.part_folders import (
    PART_NAMES,
    TEST,
    TRAIN,
    VAL,
    PartFolders,
    find_part_folders,
    folders_of,
    is_split,
    part_of_shard,
)
from fastvid.data.labels.ucf101 import ucf_parts
from fastvid.data.ntu_names import (
    LAST_OF_NTU_60,
    TRAINING_CAMERAS,
    TRAINING_PERFORMERS_60,
    TRAINING_PERFORMERS_120,
    NtuName,
    parse_ntu,
)
from fastvid.data.splits.groups import GroupOf, require_groups
from fastvid.random import SampleRandom, sample_id

_STREAM = 12  # Philox stream of protocol random


@dataclass(frozen=True)
class Video:
    """The properties of a video that protocols use.

    Attributes:
        index: its place in the source.
        key: in the source.
        name: see :class:`fastvid.data.source.Origin`; all draws and hashes are of it.
        label: its class, or None.
        size: bytes, where an index has it.
        crc32: CRC-32 of its bytes, likewise.
        folder: the local folder that was opened, or None.
        listed: see :class:`fastvid.data.source.Origin`.
        listed_part: the part that the list says, or None.
        unlisted: whether the list does not name the video.
    """

    index: int
    key: str
    name: str
    label: str | None
    size: int | None = None
    crc32: int | None = None
    folder: Path | None = None
    listed: str | None = None
    listed_part: int | None = None
    unlisted: bool = False


@dataclass(frozen=True)
class Request:
    """The options of a protocol.

    Attributes:
        shares: expected shares of training, validation and test; of the first two where the protocol has a test part.
        seed: seed of protocol random.
        group_of: a video's group by its name.
        lists: folder of the official lists; None looks for them beside the videos.
        validation: whether a validation part is cut from the training part where there is none.
    """

    shares: tuple[float, float, float]
    seed: int
    group_of: GroupOf
    lists: Path | None = None
    validation: bool = True


@dataclass
class Parts:
    """Training, validation and test videos, in this order, and sentences on how they came about."""

    videos: tuple[list[Video], list[Video], list[Video]] = field(default_factory=lambda: ([], [], []))
    notes: list[str] = field(default_factory=list)


def assign(protocol: str, videos: Sequence[Video], request: Request) -> Parts:
    """Assign videos to the parts of a protocol, one of :data:`PROTOCOLS`.

    Raises:
        ValueError: the protocol is unknown, or the videos do not fit it.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}: the protocols are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol](videos, request)


def by_hash(videos: Sequence[Video], request: Request) -> Parts:
    """Split by a hash of the name: a video stays in its part when others are added or the files are packed anew."""
    return _hashed(videos, request, lambda video: video.name)


def by_group_hash(videos: Sequence[Video], request: Request) -> Parts:
    """Split by a hash of the group, so that no group is in two parts."""
    require_groups(request.group_of, [v.name for v in videos], "protocol hash-group")
    return _hashed(videos, request, lambda video: str(request.group_of(video.name)))


def at_random(videos: Sequence[Video], request: Request) -> Parts:
    """Split by a draw from name and seed. Each class gets its shares, rounded, and at least one video for each part
    where there are three. Adding videos may move others.
    """
    parts, classes = Parts(), defaultdict(list)
    for video in videos:
        classes[video.label].append(video)
    for members in classes.values():
        members = sorted(members, key=lambda v: (*draws(v.name, request.seed, _STREAM), v.name))
        start = 0
        for part, count in zip(parts.videos, _cut(len(members), request.shares), strict=True):
            part += members[start : start + count]
            start += count
    return parts


def by_folders(videos: Sequence[Video], request: Request) -> Parts:
    """Split by the folder named train, val or test that a video is in, or else by its shard's name."""
    folders = find_part_folders(folders_of(video.name) for video in videos) or PartFolders()
    parts, others = _told(videos, lambda video: folder_part(video, folders))
    if not parts.videos[TRAIN]:
        found = ", ".join(sorted({v.name.partition("/")[0] for v in others if "/" in v.name})[:8])
        raise ValueError(
            f"protocol folders: there is no folder train above the classes' folders; there is {found or 'no folder'}"
        )
    if not parts.videos[VAL] and not parts.videos[TEST]:
        raise ValueError("protocol folders: beside the folder train there is neither a folder test nor a folder val")
    if others:
        parts.notes.append(f"{len(others)} videos outside train, val and test are left out, such as {others[0].key!r}")
    return _tested(parts, request, "there is no folder test")


def by_table(videos: Sequence[Video], request: Request) -> Parts:
    """Split by the column ``split`` of the table of labels, or by the lists of Something-Something V2."""
    parts, others = _told(videos, lambda video: video.listed_part)
    if others:
        raise ValueError(
            f"protocol table: no table or list says the part of {len(others)} of {len(videos)} videos, such as "
            f"{others[0].key!r}: give a table with the column split to --data.labels"
        )
    there = {part for part in (TRAIN, VAL, TEST) if parts.videos[part]}
    if not is_split(there):
        said = " and ".join(PART_NAMES[part] for part in sorted(there))
        raise ValueError(
            f"protocol table: all videos that {videos[0].listed} lists are in {said}: it must list some in train, and "
            "some in val or test"
        )
    return _tested(parts, request, "no video is listed for test")


def _told(videos: Sequence[Video], part_of: Callable[[Video], int | None]) -> tuple[Parts, list[Video]]:
    """Return the parts that the videos say, and the videos that say none."""
    parts = Parts()
    others: list[Video] = []
    for video in videos:
        part = part_of(video)
        (others if part is None else parts.videos[part]).append(video)
    return parts, others


def _tested(parts: Parts, request: Request, why: str) -> Parts:
    """Use val as test where there are no test videos, or they have no usable labels."""
    train, val, test = parts.videos
    if val and not any(v.label for v in test) and (not test or any(v.label for v in val)):
        why = "the videos in test have no labels" if test else why
        cut = ", and validation is cut from train" if request.validation else ""
        parts.notes.append(f"{why}: val is the test part{cut}")
        parts.videos = (train, [], val)
    if not parts.videos[VAL]:
        cut_validation(parts, request)
    return parts


def folder_part(video: Video, folders: PartFolders) -> int | None:
    """Return the part that a video's folder says, or its shard's name.

    Raises:
        ValueError: they say different parts.
    """
    part = folders.part(folders_of(video.name))
    shard = None if video.crc32 is None else part_of_shard(video.key.partition("/")[0])
    if part is not None and shard is not None and part != shard and not video.key.startswith(video.name):
        raise ValueError(
            f"the shard of {video.key} is named like {PART_NAMES[shard]}, the folder in it like {PART_NAMES[part]}: "
            "choose another --data.protocol, or rename the shards"
        )
    return shard if part is None else part


def by_subject(videos: Sequence[Video], request: Request) -> Parts:
    """Split by the cross-subject protocol of NTU RGB+D: training performers are listed; those of NTU RGB+D 120 when
    an action above 60 occurs.
    """
    names = _ntu_names(videos, "ntu-subject")
    large = any(name.action > LAST_OF_NTU_60 for name in names)
    training = TRAINING_PERFORMERS_120 if large else TRAINING_PERFORMERS_60
    parts = _official(videos, [name.performer in training for name in names])
    parts.notes.append(f"the {len(training)} training performers are those of NTU RGB+D{' 120' if large else ''}")
    cut_validation(parts, request)
    return parts


def by_view(videos: Sequence[Video], request: Request) -> Parts:
    """Split by the cross-view protocol of NTU RGB+D: cameras 2 and 3 train, camera 1 is tested."""
    parts = _official(videos, [n.camera in TRAINING_CAMERAS for n in _ntu_names(videos, "ntu-view")])
    cut_validation(parts, request)
    return parts


# From names of videos, number of the split, folders and --data.lists to the part and class of each, and sentences.
FindParts = Callable[[Sequence[str], int, Sequence[Path], Path | None], tuple[list[tuple[int, str] | None], list[str]]]


def _by_official_list(name: str, split: int, find: FindParts, *, rename: bool) -> Callable[..., Parts]:
    """Return the protocol of an official split.

    Args:
        name: name of the data set.
        split: 1, 2 or 3.
        find: reads the lists.
        rename: call a class as the lists do where its folder has another case.
    """

    def by_list(videos: Sequence[Video], request: Request) -> Parts:
        folders = sorted({video.folder for video in videos if video.folder is not None})
        parts = Parts()
        found, parts.notes = find([video.name for video in videos], split, folders, request.lists)
        for video, entry in zip(videos, found, strict=True):
            if entry is not None:
                part, listed = entry
                same = video.label is not None and video.label != listed and video.label.lower() == listed.lower()
                parts.videos[part].append(replace(video, label=listed) if rename and same else video)
        cut_validation(parts, request)
        return parts

    by_list.__doc__ = f"Official split {split} of {name}."
    return by_list


PROTOCOLS: dict[str, Callable[[Sequence[Video], Request], Parts]] = {
    "hash": by_hash,
    "hash-group": by_group_hash,
    "folders": by_folders,
    "table": by_table,
    "ucf101-1": _by_official_list("UCF-101", 1, ucf_parts, rename=True),
    "ucf101-2": _by_official_list("UCF-101", 2, ucf_parts, rename=True),
    "ucf101-3": _by_official_list("UCF-101", 3, ucf_parts, rename=True),
    "hmdb51-1": _by_official_list("HMDB-51", 1, hmdb_parts, rename=False),
    "hmdb51-2": _by_official_list("HMDB-51", 2, hmdb_parts, rename=False),
    "hmdb51-3": _by_official_list("HMDB-51", 3, hmdb_parts, rename=False),
    "ntu-subject": by_subject,
    "ntu-view": by_view,
    "random": at_random,
}


def cut_validation(parts: Parts, request: Request) -> None:
    """Move a share of the training videos to validation: by a hash of the group where all names say one and neither
    side is left empty, else by a hash of the name."""
    if not request.validation:
        return
    train, _, test = parts.videos
    most = request.shares[TRAIN] / (request.shares[TRAIN] + request.shares[VAL])

    def cut(unit: Callable[[Video], str]) -> tuple[list[Video], list[Video]]:
        sides: tuple[list[Video], list[Video]] = ([], [])
        for video in train:
            sides[_hash(unit(video)) >= most].append(video)
        return sides

    groups = all(request.group_of(video.name) is not None for video in train)
    kept, moved = cut(lambda video: str(request.group_of(video.name))) if groups else ([], [])
    whole = bool(kept and moved)
    if not whole:
        kept, moved = cut(lambda video: video.name)
    how = "whole groups by a hash" if whole else "videos by a hash of their names"
    parts.notes.append(f"validation is cut from the training part: {how}, {len(moved)} of {len(train)} videos")
    parts.videos = (kept, moved, test)


def draws(name: str, seed: int, stream: int) -> tuple[int, int]:
    """Draw 64 random bits for a video."""
    random = SampleRandom(name, seed, 0, stream=stream)
    return random.word(), random.word()


def _hash(text: str) -> float:
    """Return a number in [0, 1) that is uniform over texts and depends on the text alone."""
    return sample_id(f"part of {text}") / 2**63


def _hashed(videos: Iterable[Video], request: Request, unit: Callable[[Video], str]) -> Parts:
    parts, (train, val, _) = Parts(), request.shares
    for video in videos:
        where = _hash(unit(video))
        parts.videos[TRAIN if where < train else VAL if where < train + val else TEST].append(video)
    return parts


def _cut(count: int, shares: tuple[float, float, float]) -> tuple[int, int, int]:
    """Return the sizes of the parts of ``count`` videos."""
    if count < 3:
        return (min(count, 1), 0, count - min(count, 1))
    val, test = (max(1, round(count * share)) for share in shares[1:])
    while val + test >= count:
        val, test = (val - 1, test) if val > test else (val, test - 1)
    return count - val - test, val, test


def _official(videos: Sequence[Video], training: Sequence[bool]) -> Parts:
    train = [v for v, trains in zip(videos, training, strict=True) if trains]
    test = [v for v, trains in zip(videos, training, strict=True) if not trains]
    return Parts((train, [], test))


def _ntu_names(videos: Sequence[Video], protocol: str) -> list[NtuName]:
    names = [(video, parse_ntu(video.name)) for video in videos]
    odd = [video.key for video, name in names if name is None]
    if odd:
        raise ValueError(
            f"protocol {protocol}: {len(odd)} of {len(videos)} names are not like S001C002P003R002A013, such as "
            f"{odd[0]!r}"
        )
    return [name for _, name in names if name is not None]
