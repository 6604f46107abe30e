"""Batches of evaluation clips: every sample once, in order, with its deterministic centre view or views."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from fastvid.data.bad_samples import Quarantine
from fastvid.data.source import Source, read_video
from fastvid.data.worker_pool import default_threads
from fastvid.video import DecodeError, Limits, VideoMetadata, View, ViewSpec, decode_clips, decode_view


@dataclass
class EvalBatch:
    """Clips of consecutive samples that decoded.

    Attributes:
        clips: uint8 [B, T, H, W, 3]; [B, V, T, H, W, 3] where each sample has V views.
        indices: the samples' positions in the source.
    """

    clips: torch.Tensor
    indices: list[int]


def eval_batches(
    source: Source,
    indices: Sequence[int],
    spec: ViewSpec,
    *,
    batch: int,
    quarantine: Quarantine,
    threads: int | None = None,
    limits: Limits | None = None,
    views: Callable[[str, VideoMetadata], Sequence[View]] | None = None,
) -> Iterator[EvalBatch]:
    """Decode the centre view of each sample ahead of its use. Samples that do not decode go to the quarantine.

    Up to four batches of clips are in memory, with all views of them.

    Args:
        source: the videos.
        indices: samples to decode, in this order.
        spec: what a view is; its random parts are not used.
        batch: samples per batch; bad ones make a batch smaller.
        quarantine: where bad samples go; nothing takes their place.
        threads: decoding threads; default: half the processors.
        limits: what the decoder refuses.
        views: (key, info) -> V views of a sample, all of one shape, instead of the centre view, such as
            ``lambda key, info: spec.evaluation(key, info, clips=4, crops=3)``; each file is read and decoded once.
    """

    def decode(index: int) -> np.ndarray | None:
        key = source.samples[index].key
        try:
            data, info = read_video(source, index, limits or Limits())
            if views is None:
                clip = decode_view(data, spec.center(key, info), info=info)
            else:
                clip = decode_clips(data, views(key, info), info=info)
        except DecodeError as error:
            quarantine.add(key, error)
            return None
        quarantine.count_good(key)
        return clip

    with ThreadPoolExecutor(threads or default_threads(), thread_name_prefix="decode") as pool:
        waiting: deque[tuple[int, Future]] = deque()
        todo = iter(indices)
        done: list[tuple[int, np.ndarray]] = []
        while True:
            while len(waiting) < 2 * batch and (index := next(todo, None)) is not None:
                waiting.append((index, pool.submit(decode, index)))
            if not waiting:
                break
            index, future = waiting.popleft()
            clip = future.result()
            if clip is not None:
                done.append((index, clip))
            if len(done) == batch:
                yield _stack(done)
                done = []
        if done:
            yield _stack(done)


def _stack(done: list[tuple[int, np.ndarray]]) -> EvalBatch:
    return EvalBatch(torch.from_numpy(np.stack([clip for _, clip in done])), [index for index, _ in done])
