"""Views of listed samples, decoded ahead in threads: what evaluation and the caching of latents read."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from fastvid.data.bad_samples import Quarantine
from fastvid.data.loader.batch import Batch, stacked_latents
from fastvid.data.loader.clip_latents import clip_latents
from fastvid.data.loader.read_views import read_views
from fastvid.data.loader.views import EVERY_EPOCH, Draws
from fastvid.data.source import Sample, Source, fields_of
from fastvid.data.text.rows import ClipText, TextCollator
from fastvid.data.worker_pool import default_threads
from fastvid.random import sample_id
from fastvid.video import DecodeError, Limits, VideoMetadata, View, decode_clips

NO_VIEW = -1  # hash of a view that could not be decoded


@dataclass
class SampleViews:
    """All views of one sample.

    Attributes:
        sample: the sample.
        hashes: of its V views, :data:`NO_VIEW` where one could not be decoded.
        pixels: uint8 [T, H, W, 3] of each view, None where it could not be decoded.
        errors: why, by view.
        repeats: of each view, whether it repeats frames.
        frames: of each view, the numbers of the video's frames.
        whole: of each view, whether it shows whole frames, not mirrored.
        stored: frames that the video has.
    """

    sample: Sample
    hashes: list[int]
    pixels: list[np.ndarray | None]
    errors: dict[int, DecodeError]
    repeats: list[bool]
    frames: list[tuple[int, ...]]
    whole: list[bool]
    stored: int = 0


def decode_sample(draws: Draws, source: Source, index: int) -> SampleViews:
    """Decode the views of a sample, in one pass over its file."""
    sample, count = source.samples[index], draws.count
    if count == EVERY_EPOCH:
        raise ValueError("these draws have no end: give them the count of the views that are to be decoded")
    out = SampleViews(sample, [NO_VIEW] * count, [None] * count, {}, [False] * count, [()] * count, [False] * count)
    try:
        data, info, views = read_views(source, index, Limits(), lambda info: draws.views(sample, info))
    except DecodeError as error:
        out.errors = dict.fromkeys(range(count), error)
        return out
    out.stored = info.frames
    for draw, pixels in enumerate(_each_view(data, views, info)):
        if isinstance(pixels, DecodeError):
            out.errors[draw] = pixels
        else:
            out.pixels[draw], out.hashes[draw] = draws.transform(pixels, sample, draw), views[draw].hash
            out.repeats[draw] = views[draw].repeats_frames
            out.frames[draw], out.whole[draw] = views[draw].frames, views[draw].is_whole(info)
    return out


def _each_view(data: bytes, views: list[View], info: VideoMetadata) -> list[np.ndarray | DecodeError]:
    """Return the pixels of each view, or the error where it cannot be decoded: a damaged file may have good parts."""
    try:
        return list(decode_clips(data, views, info=info))
    except DecodeError as error:
        if len(views) == 1:
            return [error]
    return [_each_view(data, [view], info)[0] for view in views]


def decode_ahead(
    source: Source, indices: Sequence[int], draws: Draws, *, group: int, threads: int, device: torch.device
) -> Iterator[SampleViews]:
    """Decode the views of samples, in order, ahead of their use in forward passes on a device.

    A group is decoded while the forward pass of the one before it runs; but not where that takes several processor
    threads itself: these wait for each other at every operation, actively, and with a decoding thread on the core of
    one of them the pass takes three times as long. There, decoding and forward pass have all cores in turns.

    Args:
        source: the videos.
        indices: samples to decode, in this order.
        draws: their views.
        group: samples of a forward pass; up to twice as many are decoded and not taken yet.
        threads: decoding threads.
        device: where the forward passes run.
    """
    in_turns = device.type == "cpu" and torch.get_num_threads() > 1
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        waiting: deque[Future[SampleViews]] = deque()
        remaining = iter(indices)
        try:
            while True:
                if not waiting or not in_turns:
                    while len(waiting) < (group if in_turns else 2 * group):
                        if (index := next(remaining, None)) is None:
                            break
                        waiting.append(pool.submit(decode_sample, draws, source, index))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def eval_batches(
    source: Source,
    indices: Sequence[int],
    draws: Draws,
    *,
    batch: int,
    quarantine: Quarantine,
    threads: int | None = None,
    device: torch.device | None = None,
    text: TextCollator | None = None,
) -> Iterator[Batch]:
    """Decode every sample once, in order. One that lacks a view goes to the quarantine, and nothing takes its place.
    Videos and still images are in batches of their own.

    Args:
        source: the videos.
        indices: samples to decode, in this order.
        draws: their views, such as ``EvaluationDraws(spec)`` for the centre views.
        batch: samples per batch; the last one may have fewer.
        quarantine: where bad samples go.
        threads: decoding threads; default: half the processors.
        device: where forward passes run, see :func:`decode_ahead`; default: the processor. Batches stay in memory.
        text: chooses conversations about each sample, as in the first epoch, and makes tensors of them for
            ``batch.extra``; None reads none.

    Yields:
        Batches of ``batch * V`` clips; the V views of a sample are side by side.
    """
    stream = decode_ahead(
        source, indices, draws, group=batch, threads=threads or default_threads(),
        device=device or torch.device("cpu"),
    )  # fmt: skip
    done: list[SampleViews] = []
    written: list[ClipText] = []
    latents: list[np.ndarray | None] = []
    for index, one in zip(indices, stream, strict=True):
        if done and done[0].sample.kind != one.sample.kind:
            yield _stack(done, written, latents, text)
            done, written, latents = [], [], []
        key, error = one.sample.key, next(iter(one.errors.values()), None)
        if error is None and text is not None:
            try:
                said = text.choice.take(fields_of(source, index), one.sample.caption, key, 0)
                views = list(zip(one.frames, one.whole, strict=True))
                if text.choice.latents:
                    of_views = [clip_latents(source, index, shown, one.stored, whole) for shown, whole in views]
                    latents += [found[:1] if one.sample.kind == "image" else found for found in of_views]
                written += [ClipText(said, *view, kind=one.sample.kind) for view in views]
            except DecodeError as fault:
                error = fault
        if error is not None:
            quarantine.add(key, error)
            continue
        quarantine.count_good(key)
        done.append(one)
        if len(done) == batch:
            yield _stack(done, written, latents, text)
            done, written, latents = [], [], []
    if done:
        yield _stack(done, written, latents, text)


def _stack(
    done: list[SampleViews], written: list[ClipText], latents: Sequence[np.ndarray | None], text: TextCollator | None
) -> Batch:
    keys = [one.sample.key for one in done for _ in one.hashes]
    # An image is one frame, whatever number a clip has: its padding shows it again.
    frames = 1 if done[0].sample.kind == "image" else len(done[0].frames[0])
    clips = np.stack([clip[:frames] for one in done for clip in one.pixels if clip is not None])
    return Batch(
        keys=keys,
        ids=torch.tensor([sample_id(key) for key in keys]),
        view_hashes=torch.tensor([view_hash for one in done for view_hash in one.hashes]),
        clips=torch.from_numpy(clips),
        labels=[one.sample.label for one in done for _ in one.hashes],
        substitutes=[False] * len(keys),
        repeats=[repeats for one in done for repeats in one.repeats],
        text=written,
        extra={} if text is None else {**text(written, frames), **stacked_latents(latents)},
    )
