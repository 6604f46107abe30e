"""Videos that lie on a disk: the original project's files, shards of generated videos, and a user's own."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from fastvid.data import Source, open_source
from fastvid.data.demo.files import encode_h264
from fastvid.data.shards.dataset_json import NAME, load_dataset, save_dataset
from fastvid.data.shards.writer import ShardWriter
from fastvid.data.source import read_video
from fastvid.latents.manifest import dataset_hash
from fastvid.projects.trajectory.generator import draw_scenes, noise_labels
from fastvid.projects.trajectory.motion import MOTIONS
from fastvid.projects.trajectory.render import render
from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.projects.trajectory.user_files import LOST, find_files, read_labels, read_pixels
from fastvid.projects.trajectory.videos import GENERATOR, Footage, GeneratedVideos, Videos
from fastvid.video import DecodeError, Limits, View, decode_view

log = logging.getLogger(__name__)


def open_videos(config: SceneConfig) -> Videos:
    """Open the videos of a configuration: generated ones, or those at its path.

    Raises:
        FileNotFoundError: nothing is there, or a file of labels is missing.
        ValueError: what is there does not fit together.
    """
    if config.path is None:
        return GeneratedVideos(config)
    folder = Path(config.path).expanduser()
    if folder.is_dir() and (files := find_files(folder)):
        return ImportedVideos(files, config.frames)
    return OwnVideos(config)


class ImportedVideos:
    """The original project's files.

    Args:
        files: the ``.pt`` files, each with a ``.json`` beside it.
        frames: how many of the first frames are used; None for all.

    Raises:
        FileNotFoundError: a ``.json`` is missing.
        ValueError: labels that are damaged, or videos of different or too few frames.
    """

    def __init__(self, files: list[Path], frames: int | None):
        labels = [read_labels(path) for path in files]
        lengths = {label.frames for label in labels}
        if len(lengths) > 1:
            odd = next(path for path, label in zip(files, labels, strict=True) if label.frames != labels[0].frames)
            raise ValueError(
                f"{odd.with_suffix('.json')} has another num_frames than {files[0].stem}: videos of a data set need "
                f"the same number of frames; found {sorted(lengths)}"
            )
        self.frames = frames or lengths.pop()
        if self.frames > labels[0].frames:
            raise ValueError(f"frames is {self.frames}, and the videos in {files[0].parent} have {labels[0].frames}")
        self.keys = [path.stem for path in files]
        self._files = files
        self.motion = np.array([label.motion for label in labels], np.int64)
        self.noise = np.array([label.noise(self.frames) for label in labels], np.int64)
        sizes = "".join(f"{path.name}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}\n" for path in files)
        self.facts: dict[str, Any] = {
            "augmented_traj": hashlib.sha256(sizes.encode()).hexdigest(), "frames": self.frames,
        }  # fmt: skip
        log.warning("%s", LOST)

    def read(self, rows: np.ndarray) -> Footage:
        videos = [self._pixels(int(row)) for row in rows]
        for row, video in zip(rows, videos, strict=True):
            if video.shape != videos[0].shape:
                raise ValueError(
                    f"{self._files[row]} has frames of {video.shape[1:3]}, {self._files[rows[0]].name} of "
                    f"{videos[0].shape[1:3]}: videos of a data set need one size"
                )
        return Footage(np.stack(videos), "threshold", None, white_persists=True)

    def _pixels(self, row: int) -> np.ndarray:
        video = read_pixels(self._files[row])
        if len(video) < self.frames:
            raise ValueError(
                f"{self._files[row]} has {len(video)} frames of {video.shape[1:]}, and its .json says more: "
                f"{self.frames} are needed"
            )
        return video[: self.frames]


class OwnVideos:
    """Any videos that the data plane opens, whole frames resized to a square: a folder of files, or tar shards.

    Videos whose label names a motion class have it; where objects are is known of shards that :func:`write_shards`
    wrote alone, whose scenes are drawn again.

    Args:
        config: the path; frames, 16 by default, and the size.

    Raises:
        FileNotFoundError, ValueError: as :func:`fastvid.data.open_source`.
    """

    def __init__(self, config: SceneConfig):
        assert config.path is not None
        self._source: Source = open_source(config.path)
        self._scenes = _written_with(Path(config.path).expanduser())
        self.frames, self._size = (config.frames or 16), config.size
        if self._scenes is not None:
            self.frames, self._size = self._scenes.length, self._scenes.size
        samples = self._source.samples
        self.keys = [sample.key for sample in samples]
        names = [(sample.label or "").lower() for sample in samples]
        self.motion = np.array([MOTIONS.index(name) if name in MOTIONS else -1 for name in names], np.int64)
        self.noise = np.full(len(names), -1, np.int64)
        if self._scenes is not None:
            self.noise = noise_labels(self._scenes, self._numbers(np.arange(len(names))))
        self.facts: dict[str, Any] = {
            "videos": dataset_hash(config.path, self._source), "frames": self.frames, "size": self._size,
        }  # fmt: skip

    def read(self, rows: np.ndarray) -> Footage:
        frames = np.stack([self._clip(int(row)) for row in rows])
        if self._scenes is None:
            return Footage(frames, "median", None)
        _, truth = render(draw_scenes(self._scenes, self._numbers(rows)))
        return Footage(frames, "median" if self._scenes.variant == "hard" else "threshold", truth)

    def _clip(self, row: int) -> np.ndarray:
        key = self.keys[row]
        try:
            data, info = read_video(self._source, row, Limits())
            height, width = info.upright_size
            chosen = tuple(int((k + 0.5) * info.frames / self.frames) for k in range(self.frames))
            return decode_view(data, View(key, chosen, (0, 0, height, width), False, self._size), info=info)
        except DecodeError as error:
            raise ValueError(f"{key} cannot be decoded ({error}): take it out of the folder, or repair it") from error

    def _numbers(self, rows: np.ndarray) -> np.ndarray:
        return np.array([int(self.keys[row].rpartition("-")[2]) for row in rows], np.int64)


def write_shards(config: SceneConfig, folder: Path) -> None:
    """Write generated videos as tar shards with their index, which every command on data reads, without loss of a bit.

    Each video's label is its motion class.

    Raises:
        FileExistsError: ``folder`` exists.
        OSError: a file cannot be written.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: give a new folder, or remove it")
    videos = GeneratedVideos(config)
    with ShardWriter(folder, "scenes") as writer:
        for first in range(0, len(videos.keys), 64):
            rows = np.arange(first, min(first + 64, len(videos.keys)))
            for row, frames in zip(rows, videos.read(rows).frames, strict=True):
                label = MOTIONS[videos.motion[row]]
                writer.add(videos.keys[row], ".mp4", encode_h264(frames, 16, lossless=True), label=label)
    save_dataset(folder, writer.dataset(command=_COMMAND, **videos.facts))


_COMMAND = "trajectory"  # in dataset.json, beside the facts that scenes depend on


def _written_with(folder: Path) -> SceneConfig | None:
    """Return what the scenes of shards depend on, or None where they are not of this project."""
    if not (folder / NAME).is_file():
        return None
    made_by = load_dataset(folder).made_by
    if made_by.get("command") != _COMMAND:
        return None
    if made_by.get("generator") != GENERATOR:
        raise ValueError(f"{folder} was written by another version of the generator: write the shards anew")
    return SceneConfig(**{name: made_by[name] for name in ("variant", "frames", "size", "seed")})
