"""Lower bounds on the time of kernels and training steps on each card, from bytes and arithmetic.

    python -m benchmarks.harness.predictions            # print the tables of docs/gpu.md
    python -m benchmarks.harness.predictions --write    # and put them into the page

Bytes are those of ``byte_model``, operations of a step those that ``benchmarks.training.salt_step`` counted, rates the
vendor's.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import byte_model as model
from benchmarks.harness import thresholds
from benchmarks.harness.devices import gpu_class
from benchmarks.harness.workloads import VIT_B, VIT_L

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gpu.md"
_STEP = ROOT / "docs" / "results" / "salt-step-cpu-vit-base.json"  # operations do not depend on where they were counted
_CLIPS = 32  # of a SALT step on a GPU


class Card(NamedTuple):
    """A card by torch's name for it, its arithmetic in TFLOP/s and where that is from.

    ``tensor`` is bfloat16 products added up in float32, dense, in the tensor cores; ``vector`` float32 outside of them.
    """

    name: str
    device: str
    tensor: float
    vector: float
    source: str

    @property
    def gb_per_s(self) -> float:
        """Return the memory bandwidth, from the table that measured cards are compared with."""
        bandwidth = gpu_class(self.device)[1]
        assert bandwidth is not None
        return bandwidth

    @property
    def ridge(self) -> float:
        """Return the float32 operations a byte below which memory bounds a kernel without matrix products."""
        return 1e3 * self.vector / self.gb_per_s


CARDS = [
    Card("H100 SXM", "NVIDIA H100 80GB HBM3", 989.4, 66.9, "NVIDIA H100 Tensor Core GPU Architecture"),
    Card(
        "H200", "NVIDIA H200", 989.4, 66.9, "NVIDIA H200 Tensor Core GPU datasheet, half of what it gives with sparsity"
    ),
    Card("RTX 4090", "NVIDIA GeForce RTX 4090", 165.2, 82.6, "NVIDIA Ada GPU Architecture, appendix A"),
    Card("RTX 5090", "NVIDIA GeForce RTX 5090", 209.5, 104.8, "NVIDIA RTX Blackwell GPU Architecture, appendix A"),
]


class Op(NamedTuple):
    """One pass of an op at one size: bytes it must move, and about how many float32 operations it takes."""

    name: str
    least_bytes: int
    operations: int

    @property
    def intensity(self) -> float:
        """Return the operations a byte."""
        return self.operations / self.least_bytes


_B, _N, _M, _V, _D = 24, VIT_L.total, VIT_L.masked, VIT_L.visible, VIT_L.dim
_PIXELS = 3 * 2 * 16 * 16  # of a tubelet, in all colours


def _attend(Q: int) -> list[Op]:
    """Count the operations: two products a token forward, five backward, of two operations for each number."""
    B, H, N, D = 128, 12, 257, 64
    size = f"B{B} h{H} N{N} d{D}, {Q} quer{'ies' if Q > 1 else 'y'}"
    products = 2 * B * H * Q * N * D
    return [
        Op(f"query_attend forward, {size}", model.query_attend_forward(B, H, N, D, Q=Q, size=2), 2 * products),
        Op(f"query_attend backward, {size}", model.query_attend_backward(B, H, N, D, Q=Q, size=2), 5 * products),
    ]


def _glimpse(B: int, T: int, G: int, S: int) -> Op:
    """Count the operations at the frame's own resolution: 12 for each weight of 2 x 2 pixels, 2 for each colour of
    them.
    """
    numbers = B * T * G * S * S * 4 * (12 + 3 * 2)
    return Op(f"foveated_glimpse, B{B} T{T} G{G} {S}x{S}", model.foveated_glimpse(B, T, G, S, out_size=2), numbers)


# In bfloat16: a ViT-L's step of 24 clips, glimpses of two models, and attention over DINO's tokens.
OPS = [
    Op(
        f"masked_latent_loss forward, B{_B} M{_M} D{_D}",
        model.masked_latent_loss_forward(_B, _M, _D, pred_size=2, target_size=2),
        10 * _B * _M * _D,
    ),
    Op(
        f"masked_latent_loss backward, B{_B} M{_M} D{_D}",
        model.masked_latent_loss_backward(_B, _M, _D, pred_size=2),
        _B * _M * _D,
    ),
    Op(f"gather_tokens forward, B{_B} K{_V} D{_D}", model.gather_tokens(_B, _V, _D, size=2), 0),
    Op(f"gather_tokens backward, B{_B} N{_N} K{_V} D{_D}", model.scatter_tokens(_B, _N, _V, _D, size=2), 0),
    Op(f"gather_tubelets, B{_B} V{_V}", model.gather_tubelets(_B, _V, out_size=2), 2 * _B * _V * _PIXELS),
    _glimpse(8, 16, 4, 96),
    _glimpse(24, 16, 1, 128),
    *_attend(1),
    *_attend(16),
]


def least_microseconds(least_bytes: int, gb_per_s: float) -> float:
    """Return the least time: the bytes over the bandwidth."""
    return least_bytes / (1e3 * gb_per_s)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def cards() -> str:
    """Tabulate the vendor's numbers for each card."""
    head = ["card", "memory, GB/s", "bfloat16 products, TFLOP/s", "float32, TFLOP/s", "float32 FLOP a byte", "source"]
    rows = [
        [card.name, f"{card.gb_per_s:g}", f"{card.tensor:g}", f"{card.vector:g}", f"{card.ridge:.0f}", card.source]
        for card in CARDS
    ]
    return _markdown(head, rows)


def ops() -> str:
    """Tabulate the least bytes of each op, operations a byte, and the least time on each card with the bound that
    holds.
    """
    rows = [
        [op.name, f"{op.least_bytes / 1e6:.1f} MB", f"{op.intensity:.1f}", *(_least(op, card) for card in CARDS)]
        for op in OPS
    ]
    return _markdown(["op, bfloat16", "least bytes", "FLOP a byte", *(card.name for card in CARDS)], rows)


def _least(op: Op, card: Card) -> str:
    memory, arithmetic = least_microseconds(op.least_bytes, card.gb_per_s), op.operations / (1e6 * card.vector)
    return f"{arithmetic:.0f} us, arithmetic" if arithmetic > memory else f"{memory:.0f} us"


def step_bytes(clips: int) -> int:
    """Return what fastvid's ops move in a SALT step of a ViT-B: masks, visible tubelets, all of the teacher's, the
    loss."""
    N, M, V, D = VIT_B.total, VIT_B.masked, VIT_B.visible, VIT_B.dim
    return (
        model.multiblock_mask(clips, M, V)
        + model.gather_tubelets(clips, V, out_size=2)
        + model.gather_tubelets(clips, N, out_size=2)
        + model.masked_latent_loss_forward(clips, M, D, pred_size=2, target_size=2)
        + model.masked_latent_loss_backward(clips, M, D, pred_size=2)
    )


def steps() -> str:
    """Tabulate the least time of a SALT step by its matrix products, and that of the ops beside them by their bytes."""
    counted = json.loads(_STEP.read_text())
    variants = {name: row["gflop"] / counted["size"]["batch"] for name, row in counted["sides"].items()}
    rows = []
    for name, gflop in variants.items():
        least = [_CLIPS * gflop / card.tensor for card in CARDS]  # milliseconds
        rows.append(
            [f"{name}: {gflop:.0f} GFLOP a clip", *(f"{ms:.1f} ms, {1e3 * _CLIPS / ms:.0f} clips/s" for ms in least)]
        )
    moved = step_bytes(_CLIPS)
    own = [f"{least_microseconds(moved, card.gb_per_s) / 1e3:.2f} ms" for card in CARDS]
    rows.append([f"fastvid's ops, all tokens predicted: {moved / 1e6:.0f} MB", *own])
    return _markdown([f"SALT step, ViT-B, {_CLIPS} clips", *(card.name for card in CARDS)], rows)


def targets() -> str:
    """Tabulate the thresholds that the benchmarks set for GPUs."""
    rows = []
    for name, classes in thresholds.read(thresholds.PATH.read_text()).items():
        for cls in classes.keys() - {"cpu"}:
            for threshold in classes[cls]:
                bound = f"{'at least' if threshold.sign > 0 else 'at most'} {threshold.value:g}"
                where = "" if cls == "gpu" else f" ({cls})"
                rows.append([f"{name}{where}", f"{threshold}, {bound}", threshold.source])
    return _markdown(["benchmark", "must be", "source"], rows)


def measured(results: list[dict]) -> str:
    """Tabulate the share of the least bytes' time that GPUs reached, for each card in benchmarks/results."""
    from benchmarks.report import heading, label

    found = []
    for result in results:
        rate = result["device"]["datasheet_gb_per_s"]
        if result["device"]["kind"] != "cuda" or not rate:
            continue
        rows = []
        for row in result["rows"]:
            if row["least_bytes"]:
                least, took = least_microseconds(row["least_bytes"], rate), row["metrics"]["us"]
                rows.append([label(row), f"{least:.0f} us", f"{took:.0f} us", f"{100 * least / took:.0f} %"])
        found.append(f"{heading(result)}\n\n{_markdown(['benchmark', 'least', 'measured', 'of datasheet'], rows)}")
    return "\n\n".join(found) or "Nothing: no kernel of this package has been timed on a card."


def blocks(results: list[dict]) -> dict[str, str]:
    """Return the generated blocks of docs/gpu.md: name to Markdown."""
    return {"cards": cards(), "ops": ops(), "steps": steps(), "targets": targets(), "measured": measured(results)}


def page(results: list[dict]) -> str:
    """Return docs/gpu.md with its tables up to date."""
    from benchmarks.report import put

    text = PAGE.read_text()
    for name, block in blocks(results).items():
        text = put(text, name, block)
    return text


def main(arguments: list[str] | None = None) -> None:
    from benchmarks.report import RESULTS, load

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.harness.predictions", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--write", action="store_true", help="put the tables into docs/gpu.md")
    options = parser.parse_args(arguments)
    results = load(RESULTS)
    print("\n\n".join(blocks(results).values()))
    if options.write:
        PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
