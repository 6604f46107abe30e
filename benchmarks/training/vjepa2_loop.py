"""Fine-tuning a frozen V-JEPA 2 for an epoch: the published loop, and fastvid's first and later epochs.

    python -m benchmarks.training.vjepa2_loop [--approach pooler+lora] [--videos demo] [--clips 96]
        [--rounds 3] [--threads 2] [--layers 12 --width 384 --side 112] [--json loop.json]

Prints clips/s of the published loop (:mod:`benchmarks.baselines.published_vjepa2`), of fastvid's first epoch (features
are made, then trained on), of its later epochs (features are read) and of its epochs without features
(``--features.keep none``), all in one process, in turns; and what decoding, the frozen part and the trained part take.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.baselines.published_vjepa2 import Spent
from benchmarks.training.vjepa2_sides import KINDS, TINY, Recipe, Shape, check_same, make_model, published, write_videos
from fastvid.data.sources.folder import FolderSource
from fastvid.data.worker_pool import most_threads
from fastvid.projects.vjepa2.approach import Approach, parameter_counts

LOOP, FIRST, LATER, ANEW = "published loop", "fastvid, first epoch", "fastvid, later epochs", "fastvid, no features"
_LATER_EPOCHS = 5  # in a turn: one is over in no time


def main() -> None:
    options = _parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    shape = Shape(options.layers, options.width, options.side)
    with tempfile.TemporaryDirectory() as folder:
        source = write_videos(Path(folder), options.videos, options.clips, options.frames)
        result = compare(options.approach, shape, source, device, options.rounds, options.views)
        result["videos"] = options.videos
    print(text(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def compare(
    approach: Approach, shape: Shape, source: FolderSource, device: torch.device, rounds: int, views: int = 1
) -> dict[str, Any]:
    """Measure the seconds of an epoch of each variant, medians over the rounds, and of its parts.

    Args:
        approach: what trains.
        shape: shape of the model.
        source: the videos.
        device: of all variants.
        rounds: of turns.
        views: that the first epoch makes features of, of each video.
    """
    model = make_model(shape, approach)
    loop, recipe = published(model, source, device), Recipe(model, source, device, views)
    check_same(loop, recipe)
    loops: list[Spent] = []
    variants: dict[str, Callable[[], object]] = {
        LOOP: lambda: loops.append(loop.epoch()),
        FIRST: recipe.first_epoch,
        LATER: lambda: recipe.later_epochs(_LATER_EPOCHS),
        ANEW: recipe.recomputed_epoch,
    }
    taken: dict[str, list[float]] = {name: [] for name in variants}
    pieces: list[dict[str, float]] = []
    for turn in range(rounds + 1):  # the first is for warming up
        for name, variant in variants.items():
            if name == ANEW:
                recipe.use_up_what_was_decoded()
            began = time.perf_counter()
            variant()
            if turn:
                taken[name].append((time.perf_counter() - began) / (_LATER_EPOCHS if name == LATER else 1))
        if turn:
            pieces.append(recipe.pieces())
    recipe.close()
    clips = len(source.samples)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    spent = {
        part: statistics.median(getattr(one, part) for one in loops[1:])
        for part in ("decode", "pixels", "frozen", "whole")
    }
    trained = spent["whole"] - spent["decode"] - spent["pixels"] - spent["frozen"]
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch_threads": torch.get_num_threads(),
        "decode_threads": most_threads(),
        "load_average": os.getloadavg()[0],
        "torch": torch.__version__,
        "approach": approach,
        "shape": asdict(shape),
        "parameters": dict(zip(("trainable", "total"), parameter_counts(model), strict=True)),
        "clips": clips,
        "views": views,
        "rounds": rounds,
        "precision": recipe.precision,
        "seconds": seconds,
        "rounds_seconds": taken,
        "clips_per_s": {name: clips / value for name, value in seconds.items()},
        "ratios": {
            "first epoch over the published loop": seconds[LOOP] / seconds[FIRST],
            "later epochs over the published loop": seconds[LOOP] / seconds[LATER],
            "later epochs over the first": seconds[FIRST] / seconds[LATER],
            "later epochs over no features": seconds[ANEW] / seconds[LATER],
        },
        "published_ms_per_clip": {
            part: 1e3 * value / clips
            for part, value in {
                "decode": spent["decode"], "crop, processor": spent["pixels"], "frozen encoder": spent["frozen"],
                "pooler, head, update": trained,
            }.items()
        },
        "fastvid_ms_per_clip": {
            **{
                name: 1e3 * statistics.median(p[part] for p in pieces) / clips
                for name, part in (("decode, crop", "decode"), ("frozen part", "frozen"))
            },
            "trained part": 1e3 * seconds[LATER] / clips,
        },
    }  # fmt: skip


def text(result: dict[str, Any]) -> str:
    """Format the result as tables."""
    shape, size = result["shape"], result["shape"]["size"]
    name = "the tiny model" if shape == asdict(TINY) else f"{shape['layers']} layers of width {shape['width']}"
    lines = [
        f"{result['approach']}, {name} on 16 x {size} x {size}; {result['clips']} videos ({result['videos']}), "
        f"{result['views']} view(s); {result['device']}, {result['torch_threads']} torch and "
        f"{result['decode_threads']} decoding threads, {result['precision']}; medians of {result['rounds']} rounds, "
        f"load {result['load_average']:.1f}",
        "",
        f"{'':24s}{'clips/s':>10s}{'times':>9s}",
    ]
    base = result["seconds"][LOOP]
    lines += [
        f"{variant:24s}{result['clips_per_s'][variant]:10.2f}{base / seconds:8.1f}x"
        for variant, seconds in result["seconds"].items()
    ]
    lines += ["", *(f"{what}: {ratio:.1f}x" for what, ratio in result["ratios"].items())]
    for variant, title in (("published", "published loop"), ("fastvid", "fastvid, each alone")):
        parts = result[f"{variant}_ms_per_clip"]
        lines += ["", f"{title}, ms per clip: " + ", ".join(f"{part} {ms:.2f}" for part, ms in parts.items())]
    return "\n".join(lines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], prog="python -m benchmarks.training.vjepa2_loop"
    )
    parser.add_argument("--approach", choices=get_args(Approach)[:4], default="head")
    parser.add_argument("--videos", choices=KINDS, default=KINDS[0], help="their size; demo: 64 x 64")
    parser.add_argument("--clips", type=int, default=96, help="videos, each of which gives a clip")
    parser.add_argument("--frames", type=int, default=100, help="of a video")
    parser.add_argument("--views", type=int, default=1, help="augmented views that features are made of")
    parser.add_argument("--layers", type=int, default=TINY.layers, help="of the encoder")
    parser.add_argument("--width", type=int, default=TINY.width, help="of the encoder")
    parser.add_argument("--side", type=int, default=TINY.size, help="of a frame")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    return parser.parse_args()


if __name__ == "__main__":
    main()
