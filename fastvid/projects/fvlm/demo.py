"""The demo as captioned shards: lossless mp4 files with the conversations about them, kept in the cache directory."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from fastvid.data import ShardWriter
from fastvid.data.shards.dataset_json import save_dataset
from fastvid.data.shards.entry import probe_indexable
from fastvid.data.shards.index import VERSION as INDEX_VERSION
from fastvid.data.worker_pool import cores, in_order
from fastvid.files import cache_dir, whole_folder
from fastvid.projects.fvlm.questions import answer_text, ask, question_text
from fastvid.projects.fvlm.render import render
from fastvid.projects.fvlm.scenes import TASKS, SceneConfig, draw_scenes
from fastvid.video import VideoMetadata

_VERSION = 6  # version of the pictures and texts: part of the cached folder's name
_AT_ONCE = 64  # clips of a task of a rendering process
_FPS = 2
_SHARD_BYTES = 8 << 20  # small, so that a part has several

_Written = tuple[int, bytes, VideoMetadata, str, dict[str, Any]]  # number, video, metadata, label, fields


@dataclass(frozen=True)
class _Task:
    config: SceneConfig
    indices: tuple[int, ...]
    tiles: int | None
    varied: bool


@dataclass(frozen=True)
class Part:
    """A folder of the demo.

    Attributes:
        indices: numbers of its clips.
        frames: frames of each.
        tiles: tiles of each; None for half with the most, and half with any number.
        varied: whether ``tiles`` is the most, and all numbers up to it are as frequent.
    """

    indices: range
    frames: int
    tiles: int | None
    varied: bool = False


def demo_parts(config: SceneConfig) -> dict[str, Part]:
    """Return the folders of the demo by their names.

    What is to be learnt comes apart in the training parts: to read a letter, on clips of one frame with one tile; to
    look where the question says, on those with any number of tiles; to look where the frame before says, on clips of
    two frames; then all of it.
    """
    eighth, quarter = config.train // 8, config.train // 4
    parts: dict[str, Part] = {}
    first = 0
    for name, size, frames, tiles, varied in (
        ("train/one-tile", eighth, 1, 1, False),
        ("train/one-frame", quarter, 1, config.tiles, True),
        ("train/two-frames", quarter, min(2, config.frames), config.tiles, True),
        ("train/whole", config.train - 2 * quarter - eighth, config.frames, None, False),
        ("val", config.val, config.frames, config.tiles, False),
        ("test", config.test, config.frames, config.tiles, False),
    ):
        parts[name] = Part(range(first, first + size), frames, tiles, varied)
        first += size
    return parts


def cached_demo(config: SceneConfig, progress: Callable[[int, int], None] | None = None) -> Path:
    """Return the folder of the demo in the cache directory, made if it is not there: shards of each of
    :func:`demo_parts`.

    Args:
        config: the clips.
        progress: called with (clips done, clips in all).
    """
    facts = json.dumps([_VERSION, INDEX_VERSION, dataclasses.asdict(config)])
    folder = cache_dir() / f"fvlm-{hashlib.blake2b(facts.encode(), digest_size=6).hexdigest()}"
    if not folder.exists():
        try:
            with whole_folder(folder, sync=False) as partial:
                write_demo(partial, config, progress)
        except OSError:
            if not folder.exists():  # else another process has made the same folder meanwhile
                raise
    return folder


def write_demo(folder: Path, config: SceneConfig, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the shards of the demo into a folder. The same clips give the same bytes, for one version of the encoder.

    A clip's label is the task that its questions are of. Its ``conversations`` ask about every tile, and ``gaze`` says
    in which cell the answer is to be seen in each frame.
    """
    parts = demo_parts(config)
    total, done = sum(len(part.indices) for part in parts.values()), 0
    written = _written(config, parts)
    for name, part in parts.items():
        with ShardWriter(folder / name, "tiles", _SHARD_BYTES) as writer:
            for _ in part.indices:
                number, video, info, label, fields = next(written)
                writer.add(f"{number:06d}", ".mp4", video, label, extra=fields, info=info)
                done += 1
                if progress is not None:
                    progress(done, total)
        save_dataset(
            folder / name, writer.dataset(command="demo of fvlm", generator=_VERSION, **dataclasses.asdict(config))
        )


def conversations(
    config: SceneConfig, indices: np.ndarray, tiles: np.ndarray | int | None
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return the pictures of some clips, uint8 [V, T, H, W, 3], and the fields of each one's ``.json``."""
    scenes = draw_scenes(config, indices, tiles)
    asked = ask(scenes)
    fields = []
    for clip in range(len(indices)):
        task = TASKS[asked.task[clip]]
        slots = np.flatnonzero(asked.exists[clip])
        talk = [
            [
                {"from": "human", "value": question_text(task, asked.colour[clip, slot])},
                {"from": "gpt", "value": answer_text(asked.letter[clip, slot])},
            ]
            for slot in slots
        ]
        fields.append({"conversations": talk, "gaze": asked.cell[clip, slots].tolist(), "task": task})
    return render(scenes), fields


def encode_png(frames: np.ndarray) -> bytes:
    """Encode uint8 [T, H, W, 3] as an mp4 whose frames are PNG pictures: lossless, and for clips of a few small frames
    twice as quick as H.264, to write and to read.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("png", rate=_FPS)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "rgb24"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _written(config: SceneConfig, parts: dict[str, Part]) -> Iterator[_Written]:
    tasks = [
        _Task(
            dataclasses.replace(config, frames=part.frames),
            tuple(part.indices[at : at + _AT_ONCE]),
            part.tiles,
            part.varied,
        )
        for part in parts.values()
        for at in range(0, len(part.indices), _AT_ONCE)
    ]
    jobs = min(cores(), len(tasks)) if len(tasks) > 2 else 0
    for _, clips in in_order(_encode, tasks, jobs, _died):
        yield from clips


def _encode(task: _Task) -> list[_Written]:
    indices, tiles = np.array(task.indices), task.tiles
    if task.varied:  # every number for both tasks, which take turns
        assert tiles is not None
        frames, fields = conversations(task.config, indices, 1 + indices // 2 % tiles)
    else:
        frames, fields = conversations(task.config, indices, tiles)
    clips = []
    for number, pictures, said in zip(task.indices, frames, fields, strict=True):
        video = encode_png(pictures)
        clips.append((number, video, probe_indexable(video), said["task"], said))
    return clips


def _died(task: _Task) -> list[_Written]:
    raise RuntimeError(f"the process that made the demo's clips {task.indices[0]} to {task.indices[-1]} died")
