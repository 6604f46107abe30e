"""The demo data set as files: rendered, encoded as H.264, packed into tar shards, kept in the cache directory."""

import hashlib
import io
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import av
import numpy as np

from fastvid.data.demo.render import DemoSize, DemoSpec, demo_frames, demo_label
from fastvid.data.shards.dataset_json import save_dataset
from fastvid.data.shards.index import VERSION as INDEX_VERSION
from fastvid.data.shards.writer import ShardWriter
from fastvid.files import cache_dir, whole_folder
from fastvid.video.x264 import x264_params

__all__ = ["DemoSize", "cache_dir", "cached_demo", "encode_h264", "write_demo"]

_VERSION = 2  # version of the generator: part of the cached folder's name
_CHUNK = 64  # videos per task of a rendering process


def cached_demo(size: DemoSize, progress: Callable[[int, int], None] | None = None) -> Path:
    """Return the folder of the demo data set in the cache directory, with ``train`` and ``test``, rendered if
    missing.
    """
    name = hashlib.blake2b(json.dumps([_VERSION, INDEX_VERSION, asdict(size)]).encode(), digest_size=6).hexdigest()
    folder = cache_dir() / f"demo-{name}"
    if not folder.exists():
        write_demo(folder, size, progress)
    return folder


def write_demo(folder: Path, size: DemoSize, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the shards ``train/train-*.tar`` and ``test/test-*.tar``, each with a ``dataset.json``, into ``folder``.

    The folder appears complete or not at all. The same arguments give the same bytes, for one version of the encoder.

    Args:
        folder: must not exist.
        size: number and look of the videos.
        progress: called with (videos done, videos in all).

    Raises:
        FileExistsError: ``folder`` exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: give a new folder, or remove it")
    try:
        with whole_folder(folder, sync=False) as partial:
            _write_parts(partial, size, progress)
    except OSError:
        if not folder.exists():  # else another process has made the same folder meanwhile
            raise


def _write_parts(folder: Path, size: DemoSize, progress: Callable[[int, int], None] | None) -> None:
    total = size.train + size.test
    videos = _encoded_videos(size.seed, total, size.spec)
    done = 0
    for split, first, count in (("train", 0, size.train), ("test", size.train, size.test)):
        with ShardWriter(folder / split, split) as writer:
            for index in range(first, first + count):
                writer.add(f"{index:06d}", ".mp4", next(videos), label=demo_label(index))
                done += 1
                if progress is not None:
                    progress(done, total)
        made_by = {"command": "demo", "generator": _VERSION, **asdict(size)}
        save_dataset(folder / split, writer.dataset(**made_by))


def encode_h264(frames: np.ndarray, fps: int, *, lossless: bool = False) -> bytes:
    """Encode uint8 [T, H, W, 3] as an H.264 mp4 with a key frame every 12 frames.

    With ``lossless`` the frames are stored as RGB, and decoding gives every bit back; else colours have half of the
    resolution.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264rgb" if lossless else "libx264", rate=fps)
        stream.height, stream.width = frames.shape[1], frames.shape[2]
        stream.pix_fmt = "rgb24" if lossless else "yuv420p"
        stream.codec_context.thread_count = 1  # several threads may split the picture differently
        crf = "0" if lossless else "18"
        stream.options = {"crf": crf, "preset": "veryfast", "g": "12", "x264-params": x264_params()}
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _encoded_videos(seed: int, count: int, spec: DemoSpec) -> Iterator[bytes]:
    tasks = [(seed, first, min(first + _CHUNK, count), spec) for first in range(0, count, _CHUNK)]
    workers = min(len(os.sched_getaffinity(0)), len(tasks))
    if workers <= 1:
        for task in tasks:
            yield from _encode_range(task)
        return
    # "spawn": forking a process that has started torch's threads is not safe.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        # Workers inherit the signal mask: a Ctrl-C is for this process, and each of them would print a traceback.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            encoded = pool.map(_encode_range, tasks)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for videos in encoded:
            yield from videos


def _encode_range(task: tuple[int, int, int, DemoSpec]) -> list[bytes]:
    seed, first, end, spec = task
    return [encode_h264(demo_frames(seed, index, spec), spec.fps) for index in range(first, end)]
