"""``python -m fastvid.data info``: the contents of a folder of shards, and the cost of decoding it here."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from fastvid.data.exit_codes import exit_codes
from fastvid.data.shards.dataset_json import Dataset, load_dataset
from fastvid.data.shards.entry import Entry
from fastvid.data.shards.reader import LocalShards
from fastvid.data.source import Source, read_video
from fastvid.data.sources.concat import join
from fastvid.data.sources.open import open_source
from fastvid.data.sources.shard_folders import shard_folders
from fastvid.units import size
from fastvid.video import DecodeError, Limits, ViewSpec, decode_view

_SHARDS = 64  # number of samples whose indexes are read


@dataclass(frozen=True)
class InfoCommand:
    """Prints what a folder of shards holds: counts, labels, durations, codecs, sizes; and measures what decoding a clip
    costs on this machine."""

    folder: tyro.conf.Positional[Path]
    """Holds the shards and their dataset.json, or folders train, val and test of such."""
    labels: int = 10
    """Number of labels to list."""
    seconds: float = 3.0
    """Seconds for which decoding is measured; 0 for not at all."""


@dataclass(frozen=True)
class DecodeCost:
    """The cost of decoding random clips in one thread.

    Attributes:
        clips: number of clips decoded.
        milliseconds: median time per clip.
        failed: number of videos that could not be decoded.
    """

    clips: int
    milliseconds: float
    failed: int


def decode_cost(source: Source, seconds: float, spec: ViewSpec) -> DecodeCost:
    """Decode random clips of samples spread over the source for about ``seconds``, and measure the cost."""
    count = len(source.samples)
    # A stride that visits all samples, with consecutive ones far from each other.
    stride = next(s for s in range(max(1, int(count * 0.618)), 2 * count + 2) if np.gcd(s, count) == 1)
    times, failed, end = [], 0, time.perf_counter() + seconds
    for turn in range(10 * count):
        start = time.perf_counter()
        if start > end:
            break
        index = turn * stride % count
        if source.samples[index].kind == "text":
            continue
        try:
            data, info = read_video(source, index, Limits())
            decode_view(data, spec.draw(source.samples[index].key, 0, turn, info), info=info)
            times.append(time.perf_counter() - start)
        except DecodeError:
            failed += 1
    return DecodeCost(len(times), 1000 * float(np.median(times)) if times else float("nan"), failed)


@exit_codes
def run(options: InfoCommand) -> int:
    """Run the command and return the exit code."""
    folder = options.folder.expanduser()
    parts = shard_folders(folder) or {"": folder}
    datasets = {name: load_dataset(part) for name, part in parts.items()}
    entries = {name: _entries(parts[name], dataset) for name, dataset in datasets.items()}
    sources = {name: open_source(part) for name, part in parts.items() if datasets[name].samples}
    for name, dataset in datasets.items():
        if name:
            print(f"{name}:")
        _print_part(dataset, *entries[name], options.labels)
    if sources and options.seconds > 0:
        spec = ViewSpec()
        cost = decode_cost(join(sources), options.seconds, spec)
        print(
            f"decoding   {cost.milliseconds:.1f} ms per clip of {spec.frames} frames at {spec.size} x {spec.size}, "
            f"{1000 / cost.milliseconds:.1f} clips/s per thread (median of {cost.clips} random clips, measured here "
            "and now with PyAV)" + (f"; {cost.failed} could not be decoded" if cost.failed else "")
        )
    return 0


def _entries(folder: Path, dataset: Dataset) -> tuple[list[Entry], int]:
    count = len(dataset.shards)
    files = LocalShards([folder / shard.name for shard in dataset.shards], dataset.shards)
    chosen = sorted({i * count // min(count, _SHARDS) for i in range(min(count, _SHARDS))})
    return [entry for shard in chosen for entry in files.index(shard)], len(chosen)


def _print_part(dataset: Dataset, entries: Sequence[Entry], shards: int, labels: int) -> None:
    _print_counts(dataset, labels)
    if shards < len(dataset.shards):
        print(f"from the {len(entries)} videos of {shards} shards spread over all {len(dataset.shards)}:")
    _print_entries(entries)


def _print_counts(dataset: Dataset, most: int) -> None:
    tars = sum(shard.bytes for shard in dataset.shards)
    more = "" if dataset.described is None else f", {dataset.described} with conversations or other fields"
    print(f"videos     {dataset.samples} in {len(dataset.shards)} shards, {dataset.captions} with a caption{more}")
    print(f"bytes      {size(tars)} of tars, {size(dataset.video_bytes)} of videos")
    print(f"time       {dataset.seconds / 3600:.2f} hours, {dataset.frames} frames")
    print(f"codecs     {_listed(dataset.codecs)}")
    print(f"labels     {len(dataset.labels)}")
    top = sorted(dataset.labels.items(), key=lambda pair: (-pair[1], pair[0]))
    for label, count in top[:most]:
        print(f"  {count:8d} {label}")
    if len(top) > most:
        print(f"  {sum(count for _, count in top[most:]):8d} with {len(top) - most} other labels")


def _print_entries(entries: Sequence[Entry]) -> None:
    videos = [entry.video for entry in entries if entry.video is not None]
    if not videos:
        return
    for name, unit, values in (
        ("duration", "s", [video.duration for video in videos]),
        ("rate", "frames/s", [video.fps for video in videos]),
        ("size", "kB", [entry.size / 1e3 for entry in entries]),
    ):
        print(f"{name:10} {min(values):.1f} to {max(values):.1f} {unit}, median {np.median(values):.1f}")
    sizes = Counter("{1} x {0}".format(*video.upright_size) for video in videos)
    print(f"pixels     {_listed(dict(sizes.most_common(5)))}" + (" and others" if len(sizes) > 5 else ""))


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))
