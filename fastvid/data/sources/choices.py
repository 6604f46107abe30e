"""Videos that multiple-choice questions are about, found below a folder."""

import json
import os.path
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from fastvid.data.labels.delimited import read_text
from fastvid.data.loader.spans import Span
from fastvid.data.source import Sample
from fastvid.data.sources.folder import FolderSource
from fastvid.data.sources.wrapped import WrappedSource
from fastvid.data.text.choices import Choice, has_choices, read_choices
from fastvid.data.text.lists import CAPTIONS, LIST_SUFFIXES
from fastvid.data.walk import shards_in, walk
from fastvid.names import spelled

# Where MVBench's lists have their videos, as it was first published, or as its archives are unpacked now: several
# collections have files of the same names. What lies in a folder of segments is cut to the seconds asked about.
# Source: huggingface.co/datasets/OpenGVLab/MVBench.
_CHARADES = ("star/Charades_v1_480", "star/Charades_segment")
_MVBENCH = {
    "action_antonym": ("ssv2_video", "ssv2_video_mp4"), "action_count": ("perception/videos",),
    "action_localization": ("sta/sta_video", "sta/sta_video_segment"), "action_prediction": _CHARADES,
    "action_sequence": _CHARADES, "character_order": ("perception/videos",),
    "counterfactual_inference": ("clevrer/video_validation",), "egocentric_navigation": ("vlnqa",),
    "episodic_reasoning": ("tvqa/video_fps3_hq_segment",), "fine_grained_action": ("Moments_in_Time_Raw/videos",),
    "fine_grained_pose": ("nturgbd", "nturgbd_convert"), "moving_attribute": ("clevrer/video_validation",),
    "moving_count": ("clevrer/video_validation",), "moving_direction": ("clevrer/video_validation",),
    "object_existence": ("clevrer/video_validation",), "object_interaction": _CHARADES,
    "object_shuffle": ("perception/videos",), "scene_transition": ("scene_qa/video",),
    "state_change": ("perception/videos",), "unexpected_action": ("FunQA_test/test",),
}  # fmt: skip
_SEGMENTS = "_segment"
_NEXT_QA = "map_vid_vidorID.json"  # where NExT-QA's videos lie, beside its lists
_LISTS = (*LIST_SUFFIXES, ".csv")


class ChoiceSource(WrappedSource):
    """The parts of videos that questions are about; a sample is a part, and its key has the seconds behind a ``#``.

    Args:
        source: the videos.
        asked: the questions about each part, which is the number of a video and its first and last second.
        notes: sentences on what was left out.

    Attributes:
        choices: questions about each sample.
        spans: the part that a sample is, by its key; none for whole videos.
        notes: see above.
    """

    def __init__(
        self, source: FolderSource, asked: dict[tuple[int, Span | None], list[Choice]], notes: Sequence[str] = ()
    ):
        super().__init__(source)
        places = sorted(asked, key=lambda place: (place[0], place[1] or (-1.0, -1.0)))
        self._videos = [video for video, _ in places]
        self.choices = [tuple(asked[place]) for place in places]
        self.samples, self.spans = [], dict[str, Span]()
        for video, span in places:
            key = source.samples[video].key
            if span is not None:
                key += f"#t={span[0]:g},{span[1]:g}"
                self.spans[key] = span
            self.samples.append(Sample(key))
        self.shard_sizes = [len(self.samples)]
        self.notes = notes
        questions = sum(map(len, self.choices))
        self.description = f"{questions} questions about {len(set(self._videos))} of the {source.description}"

    def classes(self) -> list[str]:
        """Return nothing: parts of videos have no labels."""
        return []

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        """Do nothing: the files are local."""

    def kinds(self) -> np.ndarray:
        """Return the kinds of all parts."""
        return super().kinds()[self._videos]

    def _row(self, index: int) -> int:
        return self._videos[index]


def lists_of_choices(path: Path) -> list[Path]:
    """Return the lists of multiple-choice questions at a path, which is a list itself, or a folder with lists, or with
    a folder ``json`` of lists; none where there are none.

    Raises:
        ValueError: a list that cannot be read.
    """
    if path.is_file():
        return [path] if path.suffix.lower() in _LISTS and has_choices(path) else []
    if not path.is_dir() or shards_in(path) or any((path / name).is_file() for name in CAPTIONS):
        return []
    for folder in (path, path / "json"):
        if folder.is_dir():
            found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _LISTS and p.name != _NEXT_QA)
            if lists := [one for one in found if has_choices(one)]:
                return lists
    return []


def open_choices(lists: Sequence[Path], videos: Path | None = None) -> ChoiceSource:
    """Open the videos that lists of questions are about. A question whose video is not there is left out and counted.

    Args:
        lists: from :func:`lists_of_choices`.
        videos: the folder below which the videos lie, at any depth; default: the lists' own folder, or the one that it
            is in, if it is called ``json``.

    Raises:
        ValueError: a list that is not one; a name that several videos have; or no video is there.
    """
    folder = lists[0].parent
    root = videos or (folder.parent if folder.name == "json" else folder)
    places = _Places(root)
    found: list[tuple[str, Choice]] = []
    missing: list[Choice] = []
    for one in lists:
        for choice in read_choices(one):
            path = places.find(choice, one)
            if path is None:
                missing.append(choice)
            else:
                found.append((path, choice))
    if not found:
        such = f", such as {missing[0].video[0]}" if missing else ""
        raise ValueError(
            f"none of the {len(missing)} questions of {lists[0]} has its video below {spelled(root)}{such}: "
            "give the videos' folder with --data.videos"
        )
    source = FolderSource(root, None, sorted({path for path, _ in found}))
    number = {sample.key: index for index, sample in enumerate(source.samples)}
    asked: dict[tuple[int, Span | None], list[Choice]] = {}
    for path, choice in found:
        span = None if str(PurePosixPath(path).parent).endswith(_SEGMENTS) else choice.span
        asked.setdefault((number[spelled(path)], span), []).append(choice)
    return ChoiceSource(source, asked, list(_left_out(missing, len(found))))


def _left_out(missing: Sequence[Choice], found: int) -> Iterator[str]:
    if missing:
        groups = Counter(group for choice in missing for group in choice.groups[-1:])
        kinds = "; ".join(f"{group}: {count}" for group, count in groups.most_common(5))
        yield (
            f"left out: {len(missing)} of {found + len(missing)} questions, whose videos are not there, such as "
            f"{missing[0].video[0]}" + (f" ({kinds})" if kinds else "")
        )


class _Places:
    """The paths of videos below a folder, by the videos' names."""

    def __init__(self, root: Path):
        self._by_name: dict[str, list[str]] = {}
        for path, _ in walk(root).videos:
            for name in {PurePosixPath(path).name, PurePosixPath(path).stem}:
                self._by_name.setdefault(name, []).append(path)
        folders = {f"/{PurePosixPath(path).parent}" for paths in self._by_name.values() for path in paths}
        known = {one for those in _MVBENCH.values() for one in those}
        self._folders = {one for one in known if any(folder.endswith(f"/{one}") for folder in folders)}
        self._maps: dict[Path, dict[str, str]] = {}

    def find(self, choice: Choice, written: Path) -> str | None:
        """Return the path of a question's video, None if it is not there.

        Args:
            choice: the question.
            written: the list that it is from.
        """
        for wanted in (place for name in choice.video for place in self._places(name, written)):
            same = [path for path in self._by_name.get(PurePosixPath(wanted).name, []) if _ends_with(path, wanted)]
            if len(same) > 1:
                raise ValueError(
                    f"{choice.where}: its video {wanted} may be {spelled(same[0])} or {spelled(same[1])}: give a "
                    "folder that holds one of them with --data.videos"
                )
            if same:
                return same[0]
        return None

    def _places(self, name: str, written: Path) -> list[str]:
        """Return what is known of the place of a video: its name, or more."""
        if folders := [one for one in _MVBENCH.get(written.stem, ()) if one in self._folders]:
            return [os.path.normpath(f"{folder}/{name}") for folder in folders]
        path = written.parent / _NEXT_QA
        if path not in self._maps:
            self._maps[path] = json.loads(read_text(path)) if path.is_file() else {}
        return [os.path.normpath(self._maps[path].get(name, name))]


def _ends_with(path: str, wanted: str) -> bool:
    """Return whether a path ends with another one, whole names at a time, and with or without its own ending."""
    return any(one == wanted or one.endswith(f"/{wanted}") for one in (path, str(PurePosixPath(path).with_suffix(""))))
