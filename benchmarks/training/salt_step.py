"""Time and memory of a SALT training step: as published, as fastvid computes the same, as recommended.

    python -m benchmarks.training.salt_step [--size quarter] [--batch 4] [--memory-batch 32] [--steps] [--out step.json]

A table of clips/s and peak memory, one of time and one of kept memory by piece, and who does the arithmetic.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo

from benchmarks.training import salt_measure as measure
from benchmarks.training.salt_sides import NAMES, SIZES, STEPS, forward, make_variant, random_clip


def main() -> None:
    options = _parse()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    device = torch.device(options.device)
    names = STEPS if options.steps else NAMES
    size = SIZES[options.size]
    size = dataclasses.replace(size, batch=options.batch or size.batch)
    memory_batch = None if options.brief else options.memory_batch or size.batch
    result = compare(names, size, device, memory_batch, options.rounds, options.compile_mode)
    print(_text(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def compare(
    names, size, device: torch.device, memory_batch: int | None, rounds: int, mode: str | None = None
) -> dict[str, Any]:
    """Measure everything, by variant.

    Args:
        names: names of :data:`benchmarks.training.salt_sides.STEPS`, with ``published`` and ``same`` among them.
        size: size of the steps that are timed.
        device: of all variants.
        memory_batch: clips of the steps whose memory is measured; None for whole steps' times and nothing more.
        rounds: of timed steps; medians are reported.
        mode: of torch.compile.
    """
    torch._dynamo.config.recompile_limit = 8 * len(names)  # a kind of block has one code for all variants and shapes
    variants = {name: make_variant(name, size, device, mode) for name in names}
    clip = random_clip(size, device)
    losses = check_same(variants["published"], variants["same"], clip)
    for variant in variants.values():  # compiles, and gives the optimizer its state
        measure.seconds(variant, clip)
    whole = measure.in_turns(measure.seconds, variants, clip, rounds)
    rate = measure.gemm_rate(device)
    rows: dict[str, dict[str, Any]] = {}
    for name, variant in variants.items():
        seconds, busy = (statistics.median(column) for column in zip(*whole[name], strict=True))
        work = measure.flops(variant, clip)
        rows[name] = {
            "seconds": seconds,
            "processor_seconds": busy,
            "clips_per_s": size.batch / seconds,
            "gflop": work / 1e9,
            "share_of_gemm_rate": work / (seconds if device.type == "cuda" else busy) / rate,
        }
    if memory_batch is not None:
        pieces = measure.in_turns(measure.seconds_by_piece, variants, clip, rounds)
        for name, variant in variants.items():
            spent = {piece: statistics.median([turn[piece] for turn in pieces[name]]) for piece in measure.PIECES}
            rows[name] |= {"seconds_by_piece": spent, "shares": measure.shares(variant, clip)}
        variants.clear()  # one variant at a time from here on
        _add_memory(rows, dataclasses.replace(size, batch=memory_batch), device, mode)
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "size": dataclasses.asdict(size),
        "memory_batch": memory_batch,
        "rounds": rounds,
        "gemm_gflop_per_s": rate / 1e9,
        "loss_of_published_and_same": losses,
        "sides": rows,
    }


def _add_memory(rows: dict[str, dict[str, Any]], size, device: torch.device, mode: str | None) -> None:
    clip = random_clip(size, device)
    for name, row in rows.items():
        torch.compiler.reset()  # blocks of one kind share a small number of compiled shapes
        variant = make_variant(name, size, device, mode)
        row["peak_bytes"] = measure.peak_bytes(variant, clip)
        row["resident_bytes"] = measure.resident_bytes(variant, clip)
        row["kept_bytes_by_piece"] = measure.bytes_by_piece(variant, clip)


def check_same(published, same, clip: torch.Tensor) -> tuple[float, float]:
    """Compare the losses of both for one mask and the weights that both have. Raise unless they are equal to
    rounding.
    """
    mask = same.masks()
    with torch.no_grad():
        losses = tuple(forward(variant, clip, mask).item() for variant in (published, same))
    tolerance = 1e-5 if clip.device.type == "cpu" else 1e-2  # float32, and bfloat16 under autocast
    if abs(losses[0] - losses[1]) > tolerance * abs(losses[0]):
        raise AssertionError(f"the same mathematics gives a loss of {losses[1]}, the published code {losses[0]}")
    return losses  # type: ignore[return-value]


def _text(result: dict[str, Any]) -> str:
    variants, size, whose = result["sides"], result["size"], "" if "CPU" not in result["device"] else " per processor"
    base = variants["published"]
    memory = f"memory at batch {result['memory_batch']}; " if "peak_bytes" in base else ""
    columns: dict[str, Callable[[dict], str]] = {
        "clips/s": lambda row: f"{row['clips_per_s']:.2f}",
        "times": lambda row: f"{base['seconds'] / row['seconds']:.2f}x",
        "CPU time": lambda row: f"{base['processor_seconds'] / row['processor_seconds']:.2f}x",
        "GFLOP": lambda row: f"{row['gflop']:.1f}",
        "of rate": lambda row: f"{100 * row['share_of_gemm_rate']:.0f}%",
    }
    if "peak_bytes" in base:
        columns["peak MB"] = lambda row: f"{row['peak_bytes'] / 1e6:.0f}"
        columns["share"] = lambda row: f"{row['peak_bytes'] / base['peak_bytes']:.2f}"
        columns["resident"] = lambda row: f"{row['resident_bytes'] / 1e6:.0f}"
    lines = [
        f"{size['name']} with 16 x {size['size']} x {size['size']} clips, {result['device']}, torch {result['torch']}; "
        f"time at batch {size['batch']}, medians of {result['rounds']}; {memory}"
        f"a large matrix product reaches {result['gemm_gflop_per_s']:.0f} GFLOP/s{whose}",
        "",
        f"{'':22s}" + "".join(f"{title:>11s}" for title in columns),
    ]
    lines += [f"{n:22s}" + "".join(f"{cell(row):>11s}" for cell in columns.values()) for n, row in variants.items()]
    tables = (
        ("ms by piece", "seconds_by_piece", 1e3),
        ("MB kept by the forward pass", "kept_bytes_by_piece", 1e-6),
        ("% of the time", "shares", 100),
    )
    for title, key, unit in tables:
        if key in base:
            lines += ["", title, " " * 22 + "".join(f"{name.split()[0]:>11s}" for name in base[key])]
            lines += [
                f"{n:22s}" + "".join(f"{unit * v:11.1f}" for v in row[key].values()) for n, row in variants.items()
            ]
    return "\n".join(lines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], prog="python -m benchmarks.training.salt_step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    default = "base" if torch.cuda.is_available() else "quarter"
    parser.add_argument("--size", choices=list(SIZES), default=default)
    parser.add_argument("--batch", type=int, help="clips of a timed step")
    parser.add_argument("--memory-batch", type=int, help="clips of a step whose memory is measured")
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each variant")
    parser.add_argument(
        "--steps", action="store_true", help="also what lies between the three variants, one change each"
    )
    parser.add_argument("--brief", action="store_true", help="whole steps' times and arithmetic only")
    parser.add_argument("--threads", type=int, help="processor threads")
    parser.add_argument("--compile-mode", help="of torch.compile")
    parser.add_argument("--out", type=Path, help="a JSON file for everything that was measured")
    return parser.parse_args()


if __name__ == "__main__":
    main()
