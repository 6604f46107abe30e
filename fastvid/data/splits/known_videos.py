"""The videos of a source with what splits are made by: names, parts that a list says, and labels that names say."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from fastvid.data.labels.part_folders import PartFolders, find_part_folders, folders_of
from fastvid.data.ntu_names import parse_ntu
from fastvid.data.source import Source, origin_of
from fastvid.data.sources.relabel import relabel
from fastvid.data.sources.subset import subset
from fastvid.data.splits.protocols import Video


def videos_of(source: Source) -> Iterator[Video]:
    """Yield the videos of a source, one after the other."""
    for index, sample in enumerate(source.samples):
        origin = origin_of(source, index)
        yield Video(
            index, sample.key, origin.name, sample.label, origin.size, origin.crc32, origin.folder, origin.listed,
            origin.part, origin.unlisted,
        )  # fmt: skip


def only_listed(videos: Iterable[Video]) -> tuple[list[Video], list[str]]:
    """Return the videos that the table of labels names, where there is one, and a sentence on the others."""
    every = list(videos)
    kept = [video for video in every if not video.unlisted]
    if len(kept) == len(every):
        return kept, []
    first = next(video for video in every if video.unlisted)
    left = f"{len(every) - len(kept)} of {len(every)} videos"
    return kept, [f"{left} are not listed in {first.listed} and are left out, such as {first.key!r}"]


def with_labels(videos: list[Video], protocol: str, notes: list[str]) -> list[Video]:
    """Set the labels from folders or file names, where the source's own are not meant."""
    if protocol == "folders":
        folders = find_part_folders(folders_of(video.name) for video in videos) or PartFolders()
        return [_by_class_folder(video, folders) for video in videos]
    if any(video.listed for video in videos):
        return videos
    if len({video.label for video in videos} - {None}) > 1:
        return videos
    names = [parse_ntu(video.name) for video in videos]
    if any(name is None for name in names):
        return videos
    notes.append("labels are the action codes in the names, as of NTU RGB+D")
    return [replace(v, label=name.code) for v, name in zip(videos, names, strict=True) if name is not None]


def _by_class_folder(video: Video, folders: PartFolders) -> Video:
    """Set the label to the folder below the part's folder. A label that a shard stores stays, and so does one that
    is not just the name of the innermost folder.
    """
    above = folders_of(video.name)
    if video.listed or video.crc32 is not None or not above or folders.part(above) is None or video.label != above[-1]:
        return video
    return replace(video, label=folders.label(above))


def part_of_source(source: Source, part: Sequence[Video], classes: list[str]) -> Source:
    """Make a source of some videos, with the labels they have here."""
    part = sorted(part, key=lambda video: video.index)
    wanted = np.zeros(len(source.samples), dtype=bool)
    wanted[[video.index for video in part]] = True
    return relabel(subset(source, wanted), [video.label for video in part], classes)
