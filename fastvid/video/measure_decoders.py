"""Measurement of which decoder is fastest for some videos on this machine.

At a few hundred pixels a side, a GPU's decoder often loses to the CPU's threads; how often depends on both and on the
videos.
"""

import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fastvid.video.batch_decode import decode_views
from fastvid.video.decoders import CPU_DECODERS, DECODERS, DecoderUnavailable, require, why_not
from fastvid.video.errors import DecodeError
from fastvid.video.probe import VideoMetadata
from fastvid.video.view import View, decode_view

SampleView = tuple[bytes, View, VideoMetadata]
_BATCH = 16  # clips that a GPU is given at once
_CLIPS_PER_THREAD = 4


@dataclass(frozen=True)
class Measured:
    """One decoder's row.

    Attributes:
        decoder: its name.
        device: where it decodes.
        threads: number of threads that decode at once.
        clips_per_s: views decoded per second, all threads together; None when it is not usable.
        reason: why it is not usable, in a sentence; empty when it is.
    """

    decoder: str
    device: str
    threads: int
    clips_per_s: float | None
    reason: str = ""


def measure(
    samples: Sequence[SampleView],
    candidates: Sequence[str] = DECODERS,
    seconds: float = 3.0,
    threads: int | None = None,
) -> list[Measured]:
    """Measure each candidate by decoding the same views again and again.

    A candidate is usable when it can run here and decodes every sample that another one decodes.

    Args:
        samples: (file, view, frame table) of some videos like those that will be trained on.
        candidates: names of decoders.
        seconds: least time that each is measured, after each sample was decoded once.
        threads: number of threads of CPU decoders; default: the processors that this process may use.

    Raises:
        ValueError: no samples, an unknown candidate, or no candidate decodes any sample.
    """
    if not samples:
        raise ValueError("there is no sample to measure decoders on")
    threads = threads or len(os.sched_getaffinity(0))
    reasons: dict[str, str | None] = {name: why_not(name) for name in candidates}
    failed: dict[str, dict[int, DecodeError]] = {}
    with ThreadPoolExecutor(threads) as pool:
        for name in candidates:
            if reasons[name] is None:
                try:
                    failed[name] = _errors(name, samples, pool)
                except RuntimeError as error:  # of the device; the next candidate may do without
                    reasons[name] = f"it failed: {str(error).splitlines()[0]}"
        good = [i for i in range(len(samples)) if any(i not in errors for errors in failed.values())]
        if not good:
            first = next((errors[0] for errors in failed.values()), None)
            raise ValueError(f"none of the {len(samples)} samples can be decoded; the first: {first}")
        rows = []
        for name in candidates:
            lost = [i for i in good if i in failed.get(name, {})]
            reason, speed = reasons[name], None
            if reason is None and lost:
                reason = f"it cannot decode {len(lost)} of {len(good)} samples; the first: {failed[name][lost[0]]}"
            if reason is None:
                speed = _clips_per_s(name, [samples[i] for i in good], seconds, threads, pool)
            device, count = ("cpu", threads) if name in CPU_DECODERS else ("cuda", 1)
            rows.append(Measured(name, device, count, speed, reason or ""))
    return rows


def choose(rows: Sequence[Measured]) -> Measured:
    """Choose the fastest usable decoder.

    Raises:
        DecoderUnavailable: none is usable.
    """
    usable = [row for row in rows if row.clips_per_s is not None]
    if not usable:
        raise DecoderUnavailable("no decoder is usable: " + "; ".join(f"{r.decoder}: {r.reason}" for r in rows))
    return max(usable, key=lambda row: row.clips_per_s or 0.0)


def resolve(decoder: str, samples: Sequence[SampleView], seconds: float = 3.0) -> tuple[str, str]:
    """Choose the decoder and return it with a sentence on why. Only ``"auto"`` leads to a measurement.

    Raises:
        ValueError: no such decoder.
        DecoderUnavailable: the one named cannot run here.
    """
    if decoder != "auto":
        require(decoder)
        return decoder, f"decoding with {decoder}, as asked"
    rows = measure(samples, seconds=seconds)
    best = choose(rows)
    others = "; ".join(
        f"{row.decoder}: {row.reason or f'{row.clips_per_s:.1f} clips/s'}" for row in rows if row is not best
    )
    return best.decoder, f"decoding with {best.decoder}, the fastest here at {best.clips_per_s:.1f} clips/s ({others})"


def table(rows: Sequence[Measured]) -> str:
    """Format the rows as text, one line each below a heading."""
    lines = [f"{'decoder':17s}{'device':8s}{'threads':>7s}{'clips/s':>9s}"]
    for row in rows:
        speed = f"{row.clips_per_s:9.1f}" if row.clips_per_s is not None else f"{'-':>9s}  not usable: {row.reason}"
        lines.append(f"{row.decoder:17s}{row.device:8s}{row.threads:7d}{speed}")
    return "\n".join(lines)


def _decode_one(decoder: str, sample: SampleView) -> DecodeError | None:
    data, view, info = sample
    try:
        decode_view(data, view, info=info, decoder=decoder)
    except DecodeError as error:
        return error
    return None


def _decode_batch(decoder: str, samples: Sequence[SampleView]) -> list[DecodeError | None]:
    import torch

    videos, views, infos = zip(*samples, strict=True)
    _, errors = decode_views(videos, views, infos, decoder=decoder)
    torch.cuda.synchronize()
    return errors


def _errors(decoder: str, samples: Sequence[SampleView], pool: ThreadPoolExecutor) -> dict[int, DecodeError]:
    """Decode each sample once, and return the errors by the sample's position."""
    if decoder in CPU_DECODERS:
        results = list(pool.map(lambda sample: _decode_one(decoder, sample), samples))
    else:
        results = _decode_batch(decoder, samples)
    return {i: error for i, error in enumerate(results) if error is not None}


def _clips_per_s(
    decoder: str, samples: Sequence[SampleView], seconds: float, threads: int, pool: ThreadPoolExecutor
) -> float:
    """Measure whole passes over the samples, so that every decoder gets the same mixture of them."""
    # Several clips a thread, since the last ones of a pass leave threads idle.
    one_pass = list(samples) * math.ceil(_CLIPS_PER_THREAD * threads / len(samples))
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        if decoder in CPU_DECODERS:
            list(pool.map(lambda sample: _decode_one(decoder, sample), one_pass))
        else:
            for first in range(0, len(one_pass), _BATCH):
                _decode_batch(decoder, one_pass[first : first + _BATCH])
        done += len(one_pass)
    return done / (time.perf_counter() - start)
