"""The official protocols of data sets with three splits: UCF-101 and HMDB-51."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastvid.data.labels.part_folders import TEST, TRAIN
from fastvid.data.source import Source
from fastvid.data.splits.groups import group_finder
from fastvid.data.splits.known_videos import part_of_source, videos_of
from fastvid.data.splits.protocols import Request, Video, assign

Official = Literal["ucf101", "hmdb51"]
SPLITS = (1, 2, 3)


@dataclass(frozen=True)
class OfficialSplits:
    """The three official splits of a data set.

    Attributes:
        source: the videos that some split names, with their labels.
        train: keys of the training videos of each split.
        test: keys of its test videos.
        notes: sentences on how they came about.
    """

    source: Source
    train: list[set[str]]
    test: list[set[str]]
    notes: list[str]


def official_splits(source: Source, protocol: Official, lists: Path | None = None) -> OfficialSplits:
    """Find the three official splits of videos. Nothing is cut from the training parts for validation.

    Args:
        source: the videos, in folders named like their classes.
        protocol: whose lists they are.
        lists: folder of the lists; None looks for them in and beside the folder of the videos.

    Raises:
        ValueError: lists are missing or do not fit the videos.
    """
    videos = list(videos_of(source))
    request = Request((0.7, 0.15, 0.15), 0, group_finder(None, ()), lists, validation=False)
    train: list[set[str]] = []
    test: list[set[str]] = []
    notes: dict[str, None] = {}
    listed: dict[int, Video] = {}
    for split in SPLITS:
        parts = assign(f"{protocol}-{split}", videos, request)
        notes |= dict.fromkeys(f"split {split}: {note}" for note in parts.notes)
        for keys, part in ((train, TRAIN), (test, TEST)):
            keys.append({video.key for video in parts.videos[part]})
            listed |= {video.index: video for video in parts.videos[part]}
        if not train[-1] or not test[-1]:
            raise ValueError(f"protocol {protocol}-{split} leaves no videos to train on, or none to test on")
    classes = sorted({video.label for video in listed.values() if video.label is not None})
    return OfficialSplits(part_of_source(source, list(listed.values()), classes), train, test, list(notes))
