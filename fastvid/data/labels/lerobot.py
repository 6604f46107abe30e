"""Metadata of LeRobot data sets: which episodes there are, and where each camera's frames of them lie.

Version 2.1 has a video of each camera for each episode, and lists episodes in ``meta/episodes.jsonl``. Version 3.0
joins the videos of many episodes into one file; ``meta/episodes/*/*.parquet`` says from when to when each is shown.
Source: github.com/huggingface/lerobot, ``src/lerobot/datasets``.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvid.data.labels.delimited import read_text
from fastvid.data.labels.part_folders import is_split, part_of_folder
from fastvid.names import spelled

INFO = Path("meta", "info.json")
_EPISODE = re.compile(r"(?:^|/)(episode_\d{6,})/")
_RANGE = re.compile(r"\s*([0-9]+)\s*:\s*([0-9]+)\s*")


@dataclass(frozen=True)
class EpisodeVideo:
    """A camera's video of an episode.

    Attributes:
        episode: number of the episode.
        camera: name of the camera.
        path: of the file, below the data set's folder.
        span: first second of the episode in the file and the second behind its last; None for a file of its own.
        frames: number of its frames.
        tasks: what the robot was told.
        part: part of the split that it belongs to, where the data set has one; None for none.
    """

    episode: int
    camera: str
    path: str
    span: tuple[float, float] | None
    frames: int
    tasks: tuple[str, ...]
    part: int | None

    @property
    def key(self) -> str:
        """Return its name: the episode, then the camera."""
        return f"episode_{self.episode:06d}/{self.camera}"


@dataclass(frozen=True)
class LeRobotInfo:
    """The metadata of a data set.

    Attributes:
        version: of the format, such as ``"v3.0"``.
        fps: frames per second.
        cameras: names of the cameras that are stored as videos.
        videos: the videos, camera after camera, episodes in order.
        split: whether the data set names episodes for training and others for test or validation.
    """

    version: str
    fps: float
    cameras: tuple[str, ...]
    videos: list[EpisodeVideo]
    split: bool


def episode_of(name: str) -> str | None:
    """Return the episode that a video's name says, as in ``episode_000003/observation.images.top``: all its cameras
    must stay in one part of a split."""
    match = _EPISODE.search(name)
    return None if match is None else match[1]


def is_lerobot(folder: Path) -> bool:
    """Return whether a folder holds a LeRobot data set. One whose ``meta/info.json`` is damaged does too: as a plain
    folder of videos its clips would reach across episodes, under wrong labels."""
    path = folder / INFO
    try:
        return path.is_file() and not {"codebase_version", "video_path"}.isdisjoint(_json(path))
    except (ValueError, OSError):
        return True


def read_lerobot(folder: Path, cameras: Sequence[str] = ()) -> LeRobotInfo:
    """Read the metadata of a data set.

    Args:
        folder: with ``meta/info.json``.
        cameras: names of the cameras that are wanted, or the ends of their names behind a dot; default: all.

    Raises:
        FileNotFoundError: there is no list of episodes.
        ValueError: another version, no videos, no such camera, damaged files, or version 3 without pyarrow.
    """
    layout = _layout(folder)
    chosen = _chosen(layout.cameras, cameras, folder)
    rows: list[tuple[str, int, dict[str, Any]]] = []
    seen: set[int] = set()
    for where, row in _episodes_3(folder, chosen) if layout.joined else _episodes_2(folder):
        number = _whole(row, "episode_index", where)
        if number in seen:
            raise ValueError(f"{where}: episode {number} is listed twice")
        seen.add(number)
        rows.append((where, number, row))
    if not rows:
        raise ValueError(f"the LeRobot data set in {spelled(folder)} has no episodes")
    videos: list[EpisodeVideo] = []
    own: set[str] = set()
    for camera in chosen:
        for where, number, row in rows:
            path, span = _place(layout, row, number, camera, where)
            if span is None and path in own:
                raise ValueError(f"{where}: {path} is the video of another episode too")
            own.add(path)
            part = layout.parts.get(number)
            videos.append(
                EpisodeVideo(number, camera, path, span, _whole(row, "length", where, 1), _tasks(row, where), part)
            )
    return LeRobotInfo(layout.version, layout.fps, tuple(chosen), videos, is_split(set(layout.parts.values())))


@dataclass(frozen=True)
class _Layout:
    """The checked content of ``meta/info.json``."""

    version: str
    fps: float
    cameras: list[str]
    video_path: str
    chunks_size: int
    parts: dict[int, int]

    @property
    def joined(self) -> bool:
        """Return whether a file holds many episodes."""
        return self.version.startswith("v3.")

    def file(self, **names: str | int) -> str:
        """Return the path of a file of videos, below the data set's folder.

        Raises:
            ValueError: the pattern has other names, or leads out of the folder.
        """
        try:
            path = self.video_path.format(**names)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{INFO} is damaged: video_path {self.video_path!r} is no pattern of files ({error!r})"
            ) from error
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"{INFO}: video_path leads out of the data set's folder: {path}")
        return path


def _layout(folder: Path) -> _Layout:
    """Read and check ``meta/info.json``.

    Raises:
        ValueError: it is damaged, of another version, or without videos.
    """
    info, where = _json(folder / INFO), f"{spelled(folder / INFO)} is damaged"
    version = str(info.get("codebase_version"))
    if not version.startswith(("v2.", "v3.")):
        raise ValueError(f"{spelled(folder)} is a LeRobot data set of version {version}: versions 2 and 3 are read")
    features = _object(info, "features", where)
    for name, feature in features.items():
        if not isinstance(feature, dict) or "dtype" not in feature:
            raise ValueError(f"{where}: feature {name!r} says no dtype")
    cameras = [name for name, feature in features.items() if feature["dtype"] == "video"]
    if not cameras or not info.get("video_path"):
        raise ValueError(
            f"{spelled(folder)} is a LeRobot data set without videos: its cameras are stored as single pictures in "
            "parquet; convert it with lerobot's own tools first"
        )
    fps = _number(info, "fps")
    if not fps > 0:
        raise ValueError(f"{where}: fps is {info.get('fps')!r}, and must be a number above 0")
    chunks_size = _whole({"chunks_size": 1000} | info, "chunks_size", where, 1)
    parts = _parts(_object(info, "splits", where), where)
    return _Layout(version, fps, cameras, str(info["video_path"]), chunks_size, parts)


def _chosen(there: Sequence[str], wanted: Sequence[str], folder: Path) -> list[str]:
    """Return the full names of the cameras that are wanted.

    Raises:
        ValueError: there is no such camera, or several.
    """
    chosen = []
    for name in wanted:
        found = [camera for camera in there if camera == name or camera.endswith(f".{name}")]
        if len(found) != 1:
            how = "no camera" if not found else "several cameras"
            raise ValueError(f"{spelled(folder)} has {how} {name!r}: choose from {', '.join(there)}")
        chosen += found
    return list(dict.fromkeys(chosen)) if wanted else list(there)


def _parts(splits: dict[str, Any], where: str) -> dict[int, int]:
    """Return the part of each episode: ranges such as ``{"train": "0:40", "test": "40:50"}`` name them."""
    out: dict[int, int] = {}
    for name, episodes in splits.items():
        part = part_of_folder(name)
        if part is None:
            continue
        match = _RANGE.fullmatch(str(episodes))
        if match is None:
            raise ValueError(f"{where}: splits: {name} is {episodes!r}, and must be FIRST:END, such as '0:40'")
        for episode in range(int(match[1]), int(match[2])):
            if out.setdefault(episode, part) != part:
                raise ValueError(f"{where}: splits: episode {episode} is in two parts, one of them {name}")
    return out


def _place(
    layout: _Layout, row: dict[str, Any], number: int, camera: str, where: str
) -> tuple[str, tuple[float, float] | None]:
    """Return where a camera's video of an episode is: the file, and the seconds in it where episodes share one."""
    names: dict[str, str | int] = {
        "video_key": camera,
        "episode_index": number,
        "episode_chunk": number // layout.chunks_size,
    }
    if not layout.joined:
        return layout.file(**names, chunk_index=0, file_index=0), None
    column = f"videos/{camera}/"
    chunk, file = (_whole(row, f"{column}{name}_index", where) for name in ("chunk", "file"))
    begin, end = (_number(row, f"{column}{name}_timestamp") for name in ("from", "to"))
    if not begin >= 0:
        name = f"{column}from_timestamp"
        raise ValueError(f"{where}: {name} is {row.get(name)!r}, and must be a number of seconds")
    if not end > begin:
        name = f"{column}to_timestamp"
        raise ValueError(f"{where}: {name} is {row.get(name)!r}, and must be a number of seconds above {begin:g}")
    return layout.file(**names, chunk_index=chunk, file_index=file), (begin, end)


def _episodes_2(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the episodes of version 2, each with where it is listed."""
    path = folder / "meta" / "episodes.jsonl"
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            where = f"{spelled(path)}, line {number}"
            yield where, _parsed(line, where)


def _episodes_3(folder: Path, cameras: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the episodes of version 3, each with where it is listed, and with where each camera's frames of it are."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ValueError(
            "LeRobot data sets of version 3 list their episodes in parquet files: pip install 'fastvid[lerobot]'"
        ) from error
    files = sorted((folder / "meta" / "episodes").rglob("*.parquet"))
    names = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    columns = ["episode_index", "length", "tasks", *(f"videos/{camera}/{name}" for camera in cameras for name in names)]
    for file in files:
        try:
            parquet = ParquetFile(file)
            there = [name for name in columns if name == "tasks" or name in parquet.schema_arrow.names]
            rows = parquet.read(columns=there).to_pylist()
        except (ArrowException, OSError) as error:
            raise ValueError(f"{spelled(file)} cannot be read: {error}") from error
        for number, row in enumerate(rows, 1):
            yield f"{spelled(file)}, row {number}", row


def _tasks(row: dict[str, Any], where: str) -> tuple[str, ...]:
    tasks = row.get("tasks") or []
    if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
        raise ValueError(f"{where}: tasks must be a list of texts")
    return tuple(tasks)


def _whole(row: dict[str, Any], name: str, where: str, least: int = 0) -> int:
    """Return a whole number of the metadata.

    Raises:
        ValueError: it is missing, something else, or below ``least``.
    """
    value = _number(row, name)
    if not value >= least or not value.is_integer():
        raise ValueError(f"{where}: {name} is {row.get(name)!r}, and must be a whole number of at least {least}")
    return int(value)


def _number(row: dict[str, Any], name: str) -> float:
    """Return a number of the metadata, NaN for anything that is no finite one."""
    value = row.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return math.nan
    return float(value)


def _object(info: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return an object of the metadata, an empty one where it is missing."""
    value = {} if info.get(name) is None else info[name]
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {name} must be an object")
    return value


def _json(path: Path) -> dict[str, Any]:
    return _parsed(read_text(path), f"{spelled(path)} is damaged")


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not an object of JSON ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{where}: not an object of JSON")
    return values
