"""Labelled videos split into training, validation and test by a protocol, for supervised training."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastvid.data.labels.part_folders import PART_NAMES, TRAIN
from fastvid.data.source import Source
from fastvid.data.splits.class_map import ClassChoice, action_code, class_mapping
from fastvid.data.splits.groups import GroupOf, group_finder
from fastvid.data.splits.known_videos import only_listed, part_of_source, videos_of, with_labels
from fastvid.data.splits.leaks import group_leaks, same_files
from fastvid.data.splits.protocols import PROTOCOLS, Parts, Request, Video, assign, draws
from fastvid.data.splits.visible import AUTO, Facts, visible_split
from fastvid.random import sample_id

_STREAM = 13  # Philox stream of the choice of videos_per_class


@dataclass(frozen=True)
class LabelledSplits:
    """Training, validation and test videos of the same classes.

    Attributes:
        train: videos to train with; every sample has a label, and ``classes()`` answers :attr:`classes`.
        val: likewise, to choose a checkpoint by.
        test: likewise, to report.
        classes: their names, sorted; a class id is a position.
        protocol: name of the protocol that made them.
        leaks: sentences on what validation or test share with other parts.
        notes: sentences on how the parts came about.
    """

    train: Source
    val: Source
    test: Source
    classes: list[str]
    protocol: str
    leaks: list[str]
    notes: list[str]

    @property
    def ids(self) -> dict[str, int]:
        """Return the class ids by name."""
        return {name: number for number, name in enumerate(self.classes)}

    def counts(self) -> dict[str, dict[str, int]]:
        """Count the videos of each class in each part: ``counts()[class]["train"]``, ``["val"]``, ``["test"]``."""
        found = {name: dict.fromkeys(PART_NAMES, 0) for name in self.classes}
        for part, source in zip(PART_NAMES, (self.train, self.val, self.test), strict=True):
            for sample in source.samples:
                assert sample.label is not None
                found[sample.label][part] += 1
        return found


def split_labelled(
    source: Source,
    *,
    protocol: str = AUTO,
    shares: Sequence[float] = (0.7, 0.15, 0.15),
    videos_per_class: int | None = None,
    seed: int = 0,
    groups: str | None = None,
    classes: str | Mapping[str, str] | None = None,
    lists: str | Path | None = None,
) -> LabelledSplits:
    """Split labelled videos.

    The protocols:

    - ``auto``: the split that the data set shows, see :func:`fastvid.data.splits.visible.visible_split`; where it shows
      none, ``hash-group`` if all names say a group, else ``hash``. ``notes`` say which it was, and why.
    - ``hash``: a hash of each video's name decides; adding videos, or packing them anew, never moves one. Depends on no
      seed.
    - ``hash-group``: the same of its group, so that no group is on two sides.
    - ``folders``: folders named train, val and test hold the classes' folders, or shards are named so. Without val, one
      is cut from train; without test, or with one that has no labels as in Something-Something V2, val is tested.
    - ``table``: the column ``split`` of the table of labels, or the lists of Something-Something V2.
    - ``ucf101-1``, ``ucf101-2``, ``ucf101-3``: the official lists of UCF-101, beside the videos.
    - ``ntu-subject``, ``ntu-view``: cross-subject and cross-view of NTU RGB+D, from the file names.
    - ``random``: the shares of each class, drawn by name and seed; blind to groups, for comparison.

    Where a protocol knows no validation part, one is cut from the training videos, by group where they have any.

    Args:
        source: the videos. Where all are named as in NTU RGB+D and carry fewer than two labels, the action's code is
            the label.
        protocol: one of the above.
        shares: expected shares of training, validation and test; the first two also say what is cut for validation.
        videos_per_class: training videos of each class, chosen by name and ``seed``: those for 50 are among those for
            100. Validation and test do not depend on it. Default: all.
        seed: seed of that choice and of protocol ``random``.
        groups: a regular expression with one group, searched in a video's name (its path without ending), that marks
            what videos share; by default UCF-101's and NTU RGB+D's names are known.
        classes: from labels, or action codes of NTU RGB+D, to class names; ``"*"`` stands for all others, of which as
            many are kept in each part as the other classes have on average; without it they are left out. Or the name
            of one of :data:`fastvid.data.splits.class_map.PRESETS`: ``"ntu-4"``.
        lists: folder of UCF-101's official lists, if they are not beside the videos.

    Raises:
        ValueError: one sentence on what does not fit: videos without labels, one class alone, a class of one video, one
            without training videos, an empty part, names or lists that the protocol needs, shares that do not sum to 1.
    """
    if protocol not in (AUTO, *PROTOCOLS):
        raise ValueError(f"unknown protocol {protocol!r}: the protocols are {AUTO}, {', '.join(PROTOCOLS)}")
    if videos_per_class is not None and videos_per_class < 1:
        raise ValueError(f"videos_per_class must be at least 1; got {videos_per_class}")
    videos, notes = only_listed(videos_of(source))
    group_of = group_finder(groups, [video.name for video in videos])
    lists = None if lists is None else Path(lists).expanduser()
    request = Request(_checked_shares(shares), seed, group_of, lists)
    if protocol == AUTO:
        found = visible_split(Facts.from_videos(videos), lists)
        grouped = found is None and all(group_of(video.name) is not None for video in videos)
        protocol = found.protocol if found is not None else "hash-group" if grouped else "hash"
        why = found.why if found is not None else "the videos show no split of their own"
        notes.append(f"split: protocol {protocol}, since {why}{', and their names say groups' if grouped else ''}")
    videos = with_labels(videos, protocol, notes)
    choice = None if classes is None else ClassChoice(class_mapping(classes))
    if choice is not None:
        videos = _chosen(videos, choice, notes)
    parts = assign(protocol, videos, request)
    notes += parts.notes
    _require_labels(parts, protocol)
    if choice is not None and choice.bucket is not None:
        _level(parts, choice.bucket, notes)
    names = _checked_classes(parts, protocol, notes)
    if videos_per_class is not None:
        parts.videos = (_choose(parts.videos[TRAIN], videos_per_class, seed), *parts.videos[1:])
    leaks, unknown = _leaks(parts, source, protocol, group_of)
    train, val, test = (part_of_source(source, part, names) for part in parts.videos)
    return LabelledSplits(train, val, test, names, protocol, leaks, notes + unknown)


def _checked_shares(shares: Sequence[float]) -> tuple[float, float, float]:
    if len(shares) != 3 or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(
            "shares must be three positive numbers for training, validation and test that sum to 1; got "
            f"{', '.join(f'{share:g}' for share in shares)} (sum {sum(shares):g})"
        )
    train, val, test = shares
    return train, val, test


def _chosen(videos: Sequence[Video], choice: ClassChoice, notes: list[str]) -> list[Video]:
    kept = []
    for video in videos:
        if video.label is None and action_code(video.name, None) is None:
            kept.append(video)  # refused below, rather than taken for one of the others
        elif (name := choice.of(video.name, video.label)) is not None:
            kept.append(replace(video, label=name))
    choice.check()
    if len(kept) < len(videos):
        notes.append(f"{len(videos) - len(kept)} of {len(videos)} videos are of classes that are not wanted")
    return kept


def _require_labels(parts: Parts, protocol: str) -> None:
    videos = [video for part in parts.videos for video in part]
    without = [video.key for video in videos if video.label is None]
    if without and len(without) == len(videos) and protocol == "folders":
        raise ValueError(
            f"the folders named train, val or test hold {len(videos)} videos without a label, such as {without[0]!r}: "
            "put those of each class into a folder of its own below them, or name their labels in a table with "
            "--data.labels"
        )
    if without:
        raise ValueError(
            f"{len(without)} of {len(videos)} videos have no label, such as {without[0]!r}: put every video into a "
            "folder named like its class, or name each of them in a table with --data.labels"
        )


def _level(parts: Parts, bucket: str, notes: list[str]) -> None:
    """Reduce, in each part, the class that holds all others to the average size of the other classes."""
    said = []
    for part in range(3):
        counts = Counter(video.label for video in parts.videos[part])
        others = counts.pop(bucket, 0)
        if not others or not counts:
            continue
        wanted = max(1, round(sum(counts.values()) / len(counts)))
        if others > wanted:
            mine = sorted(
                (v for v in parts.videos[part] if v.label == bucket), key=lambda v: sample_id(f"level {v.name}")
            )
            dropped = {video.index for video in mine[wanted:]}
            parts.videos[part][:] = [video for video in parts.videos[part] if video.index not in dropped]
            said.append(f"{wanted} of {others} in {PART_NAMES[part]}")
    if said:
        notes.append(f"{bucket!r} keeps as many videos as the other classes have on average: {', '.join(said)}")


def _checked_classes(parts: Parts, protocol: str, notes: list[str]) -> list[str]:
    counts = [Counter(video.label for video in part) for part in parts.videos]
    total = sum(counts, Counter())
    names = sorted(label for label in total if label is not None)
    if len(names) < 2:
        what = (
            f"all {total[names[0]]} videos are of the class {names[0]!r}" if names else "there are no labelled videos"
        )
        raise ValueError(f"{what}: a classifier needs at least two classes")
    single = [name for name in names if total[name] == 1]
    if single:
        raise ValueError(
            f"the class {single[0]!r} has one video{_and_more(single)}: a class needs some for training and some for "
            "test; add videos, or leave the class out"
        )
    for part, there in zip(PART_NAMES, counts, strict=True):
        if not there:
            raise ValueError(
                f"protocol {protocol} puts none of the {sum(total.values())} videos into {part}: add videos, or choose "
                "another protocol or other shares"
            )
        missing = [name for name in names if not there[name]]
        if missing and part == PART_NAMES[TRAIN]:
            raise ValueError(
                f"protocol {protocol} puts none of the {total[missing[0]]} videos of the class {missing[0]!r} into "
                f"train{_and_more(missing)}: add videos, choose another protocol, or leave the class out"
            )
        if missing:
            examples = ", ".join(f"{name!r} ({total[name]} videos in all)" for name in missing[:3])
            notes.append(f"{len(missing)} of {len(names)} classes have no video in {part}, such as {examples}")
    return names


def _and_more(names: list[str]) -> str:
    return f", and so it is with {len(names) - 1} more" if len(names) > 1 else ""


def _choose(train: list[Video], count: int, seed: int) -> list[Video]:
    classes = defaultdict(list)
    for video in train:
        classes[str(video.label)].append(video)
    short = sorted((name, len(members)) for name, members in classes.items() if len(members) < count)
    if short:
        said = ", ".join(f"{name!r} has {there}" for name, there in short[:5])
        raise ValueError(
            f"videos_per_class is {count}, and of training videos {said}"
            f"{f', and {len(short) - 5} more classes have too few' if len(short) > 5 else ''}: ask for at most "
            f"{min(there for _, there in short)}"
        )
    ranked = (sorted(members, key=lambda v: (*draws(v.name, seed, _STREAM), v.key)) for members in classes.values())
    return [video for members in ranked for video in members[:count]]


def _leaks(parts: Parts, source: Source, protocol: str, group_of: GroupOf) -> tuple[list[str], list[str]]:
    leaks = group_leaks(parts.videos, group_of)
    if leaks and protocol == "ntu-view":
        leaks = [f"{leak}; cross-view means it so: it tests new cameras, not new people" for leak in leaks]
    elif leaks:
        leaks = [f"{leak}; protocol hash-group keeps them apart" for leak in leaks]
    same, unknown = same_files(parts.videos, source)
    return leaks + same, unknown


def labels_of(source: Source) -> dict[str, str]:
    """Return the class of each video, by key."""
    return {sample.key: sample.label or "" for sample in source.samples}
