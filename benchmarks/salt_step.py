"""Where the time and the memory of a SALT training step go: as published, as fastvid computes the same, as recommended.

    python -m benchmarks.salt_step [--size quarter] [--batch 4] [--memory-batch 32] [--steps] [--out step.json]

A table of clips/s and peak memory, one of time and one of kept memory by piece, and who does the arithmetic.
"""

import argparse
import dataclasses
import json
import statistics
from pathlib import Path

import torch

from benchmarks import salt_measure as measure
from benchmarks.salt_sides import NAMES, SIZES, STEPS, forward, make_side, random_clip


def main() -> None:
    options = _parse()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    device = torch.device(options.device)
    names = STEPS if options.steps else NAMES
    size = SIZES[options.size]
    size = dataclasses.replace(size, batch=options.batch or size.batch)
    result = compare(names, size, device, options.memory_batch or size.batch, options.rounds, options.compile_mode)
    print(_text(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def compare(names, size, device: torch.device, memory_batch: int, rounds: int, mode: str | None = None) -> dict:
    """Everything that is measured, by side.

    Args:
        names: of :data:`benchmarks.salt_sides.STEPS`, with ``published`` and ``same`` among them.
        size: of the steps that are timed.
        device: of all sides.
        memory_batch: clips of the steps whose memory is measured.
        rounds: of timed steps; medians are reported.
        mode: of torch.compile.
    """
    sides = {name: make_side(name, size, device, mode) for name in names}
    clip = random_clip(size, device)
    losses = check_same(sides["published"], sides["same"], clip)
    for _ in range(2):  # compiles, and gives the optimizers their state
        measure.in_turns({name: lambda s=side: measure.seconds(s, clip) for name, side in sides.items()}, 1)
    whole = measure.in_turns({name: lambda s=side: measure.seconds(s, clip) for name, side in sides.items()}, rounds)
    pieces = measure.in_turns(
        {name: lambda s=side: measure.seconds_by_piece(s, clip) for name, side in sides.items()}, rounds
    )
    rate = measure.gemm_rate(device)
    rows: dict[str, dict] = {}
    for name, side in sides.items():
        step_seconds, busy = (statistics.median(column) for column in zip(*whole[name], strict=True))
        work = measure.flops(side, clip)
        rows[name] = {
            "seconds": step_seconds,
            "processor_seconds": busy,
            "clips_per_s": size.batch / step_seconds,
            "seconds_by_piece": {p: statistics.median([spent[p] for spent in pieces[name]]) for p in measure.PIECES},
            "gflop": work / 1e9,
            "share_of_gemm_rate": work / (step_seconds if device.type == "cuda" else busy) / rate,
            "shares": measure.shares(side, clip),
        }
    large = dataclasses.replace(size, batch=memory_batch)
    clip = random_clip(large, device)
    sides.clear()
    for name, row in rows.items():
        side = make_side(name, large, device, mode)
        row |= {"peak_bytes": measure.peak_bytes(side, clip), "resident_bytes": measure.resident_bytes(side, clip)}
        row["kept_bytes_by_piece"] = measure.bytes_by_piece(side, clip)
        del side
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


def check_same(published, same, clip: torch.Tensor) -> tuple[float, float]:
    """The losses of both for one mask and the weights that both have; raises unless they are one to rounding."""
    mask = same.masks()
    with torch.no_grad():
        losses = tuple(forward(side, clip, mask).item() for side in (published, same))
    tolerance = 1e-5 if clip.device.type == "cpu" else 1e-2  # float32, and bfloat16 under autocast
    if abs(losses[0] - losses[1]) > tolerance * abs(losses[0]):
        raise AssertionError(f"the same mathematics gives a loss of {losses[1]}, the published code {losses[0]}")
    return losses  # type: ignore[return-value]


def _text(result: dict) -> str:
    sides, size = result["sides"], result["size"]
    base = sides["published"]
    lines = [
        f"{size['name']} with 16 x {size['size']} x {size['size']} clips, {result['device']}, torch {result['torch']}; "
        f"time at batch {size['batch']}, medians of {result['rounds']}; memory at batch {result['memory_batch']}; "
        f"a large matrix product reaches {result['gemm_gflop_per_s']:.0f} GFLOP/s"
        f"{'' if 'CPU' not in result['device'] else ' per processor'}",
        "",
        f"{'':22s}{'clips/s':>9s}{'times':>7s}{'by CPU':>8s}{'peak MB':>9s}{'share':>7s}{'resident':>9s}{'GFLOP':>8s}"
        f"{'of rate':>8s}",
    ]
    for name, row in sides.items():
        lines.append(
            f"{name:22s}{row['clips_per_s']:9.2f}{base['seconds'] / row['seconds']:6.2f}x"
            f"{base['processor_seconds'] / row['processor_seconds']:7.2f}x{row['peak_bytes'] / 1e6:9.0f}"
            f"{row['peak_bytes'] / base['peak_bytes']:6.2f}x{row['resident_bytes'] / 1e6:9.0f}{row['gflop']:8.1f}"
            f"{100 * row['share_of_gemm_rate']:7.0f}%"
        )
    tables = (
        ("ms by piece", "seconds_by_piece", 1e3),
        ("MB kept by the forward pass", "kept_bytes_by_piece", 1e-6),
        ("% of the time", "shares", 100),
    )
    for title, key, unit in tables:
        columns = list(base[key])
        lines += ["", f"{title:22s}" + "".join(f"{c.split()[0]:>11s}" for c in columns)]
        lines += [f"{n:22s}" + "".join(f"{unit * row[key][c]:11.1f}" for c in columns) for n, row in sides.items()]
    return "\n".join(lines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], prog="python -m benchmarks.salt_step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    default = "base" if torch.cuda.is_available() else "quarter"
    parser.add_argument("--size", choices=list(SIZES), default=default)
    parser.add_argument("--batch", type=int, help="clips of a timed step")
    parser.add_argument("--memory-batch", type=int, help="clips of a step whose memory is measured")
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each side")
    parser.add_argument("--steps", action="store_true", help="also what lies between the three sides, one change each")
    parser.add_argument("--threads", type=int, help="processor threads")
    parser.add_argument("--compile-mode", help="of torch.compile")
    parser.add_argument("--out", type=Path, help="a JSON file for everything that was measured")
    return parser.parse_args()


if __name__ == "__main__":
    main()
