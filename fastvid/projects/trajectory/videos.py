"""The videos of a run, wherever they come from: read in pieces, and split into training, validation and test."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from fastvid.data.splits.protocols import Request, Video, assign
from fastvid.projects.trajectory.config import Task
from fastvid.projects.trajectory.generator import draw_scenes, noise_labels
from fastvid.projects.trajectory.motion import MOTIONS
from fastvid.projects.trajectory.render import Truth, render
from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.tracks.blobs import Detector

Split = Literal["train", "val", "test"]
GENERATOR = 1  # version of the generated pixels: part of every fingerprint


@dataclass(frozen=True)
class Footage:
    """Some videos.

    Attributes:
        frames: uint8 [V, T, H, W, 3].
        detector: what suits them.
        truth: where the objects are, or None where that is not known.
        white_persists: whether an object counts as persistent by its colour, white, where there is no truth.
    """

    frames: np.ndarray
    detector: Detector
    truth: Truth | None
    white_persists: bool = False


class Videos(Protocol):
    """Videos that can be read in pieces.

    Attributes:
        keys: stable names.
        frames: T, frames of each video.
        motion: int64 [V], motion class; -1 where that is not known.
        noise: int64 [V], the noise label; -1 where that is not known.
        facts: all that pixels and truth depend on, as JSON values.
    """

    keys: list[str]
    frames: int
    motion: np.ndarray
    noise: np.ndarray
    facts: dict[str, Any]

    def read(self, rows: np.ndarray) -> Footage:
        """Return the videos with these numbers."""
        ...


class GeneratedVideos:
    """Videos that are rendered when they are read: nothing is stored.

    Args:
        config: which videos; their number is the sum of the parts.

    Raises:
        ValueError: the number of frames does not fit the variant.
    """

    def __init__(self, config: SceneConfig):
        count = config.train + config.val + config.test
        self.config, self.frames = config, config.length
        self.keys = [f"{config.variant}-{config.seed}-{index:06d}" for index in range(count)]
        self.motion = np.arange(count) % len(MOTIONS)
        self.noise = noise_labels(config, np.arange(count))
        shown = dataclasses.asdict(dataclasses.replace(config, frames=self.frames))
        self.facts = {"generator": GENERATOR, **{name: shown[name] for name in ("variant", "frames", "size", "seed")}}

    def read(self, rows: np.ndarray) -> Footage:
        frames, truth = render(draw_scenes(self.config, rows))
        return Footage(frames, "median" if self.config.variant == "hard" else "threshold", truth)


def split_rows(videos: Videos, shares: Sequence[float], task: Task = "motion") -> dict[Split, np.ndarray]:
    """Split videos by a hash of their keys, each stratum of equal labels in the same proportion.

    Args:
        videos: all videos.
        shares: of training, validation and test, in any unit.
        task: whose labels every part must have at least two of.

    Returns:
        The rows of each part, ascending.

    Raises:
        ValueError: a part would be empty, or all its videos would have one label, so that any accuracy measured there
            would mean nothing.
    """
    strata = [
        Video(row, key, key, f"{motion} {noise}")
        for row, (key, motion, noise) in enumerate(zip(videos.keys, videos.motion, videos.noise, strict=True))
    ]
    whole = float(sum(shares))
    wanted = (shares[0] / whole, shares[1] / whole, shares[2] / whole)
    parts = assign("random", strata, Request(wanted, 0, lambda name: None)).videos
    rows: dict[Split, np.ndarray] = {}
    names: tuple[Split, ...] = ("train", "val", "test")
    for name, part in zip(names, parts, strict=True):
        rows[name] = np.sort(np.array([video.index for video in part], np.int64))
        _check_classes(name, rows[name], videos, task)
    return rows


def class_names(task: Task) -> list[str]:
    """Return the names of a task's classes; a class id is a position."""
    return list(MOTIONS) if task == "motion" else ["many transients", "few transients"]


def labels_of(videos: Videos, task: Task) -> np.ndarray:
    """Return int64 [V]: the labels of a task, -1 where they are not known."""
    return videos.motion if task == "motion" else videos.noise


def _check_classes(part: str, rows: np.ndarray, videos: Videos, task: Task) -> None:
    labels = labels_of(videos, task)[rows]
    if not len(rows):
        raise ValueError(f"no video would be in the part {part}: {len(videos.keys)} videos are too few to split")
    if (labels < 0).any():
        raise ValueError(
            f"{int((labels < 0).sum())} of {len(rows)} videos in the part {part} have no label for the task {task}, "
            f"such as {videos.keys[int(rows[labels < 0][0])]!r}: without labels they can be predicted on alone"
        )
    if len(np.unique(labels)) < 2:
        raise ValueError(
            f"all {len(rows)} videos in the part {part} are of one class, {class_names(task)[int(labels[0])]!r}: any "
            "accuracy there would mean nothing; give videos of two classes or more"
        )
