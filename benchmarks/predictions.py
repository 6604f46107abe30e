"""Times that no kernel beats, from the byte model and the datasheet: for cards that were not measured."""

from benchmarks import byte_model as model
from benchmarks.devices import PREDICTED
from benchmarks.workloads import VIT_L

_B, _N, _M, _V, _D = 24, VIT_L.total, VIT_L.masked, VIT_L.visible, VIT_L.dim

# (what, least bytes) in bfloat16: a ViT-L's step of 24 clips, glimpses of two models, and attention over DINO's tokens.
SIZES = [
    (
        f"masked_latent_loss forward, B{_B} M{_M} D{_D}",
        model.masked_latent_loss_forward(_B, _M, _D, pred_size=2, target_size=2),
    ),
    (f"masked_latent_loss backward, B{_B} M{_M} D{_D}", model.masked_latent_loss_backward(_B, _M, _D, pred_size=2)),
    (f"gather_tokens forward, B{_B} K{_V} D{_D}", model.gather_tokens(_B, _V, _D, size=2)),
    (f"gather_tokens backward, B{_B} N{_N} K{_V} D{_D}", model.scatter_tokens(_B, _N, _V, _D, size=2)),
    (f"gather_tubelets, B{_B} V{_V}", model.gather_tubelets(_B, _V, out_size=2)),
    ("foveated_glimpse, B8 T16 G4 96x96", model.foveated_glimpse(8, 16, 4, 96, out_size=2)),
    ("foveated_glimpse, B24 T16 G1 128x128", model.foveated_glimpse(24, 16, 1, 128, out_size=2)),
    ("query_attend forward, B128 h12 N257 d64", model.query_attend_forward(128, 12, 257, 64, size=2)),
    ("query_attend backward, B128 h12 N257 d64", model.query_attend_backward(128, 12, 257, 64, size=2)),
]


def least_microseconds(least_bytes: int, gb_per_s: float) -> float:
    """Bytes over bandwidth."""
    return least_bytes / (1e3 * gb_per_s)


def table() -> str:
    """Markdown: least bytes of each op, and the least time on each card that is predicted."""
    cards = list(PREDICTED.values())
    lines = [
        "| op, bfloat16 | least bytes | " + " | ".join(f"{name}, {rate} GB/s" for name, rate in cards) + " |",
        "|---" * (2 + len(cards)) + "|",
    ]
    for what, least in SIZES:
        times = " | ".join(f"{least_microseconds(least, rate):.0f} us" for _, rate in cards)
        lines.append(f"| {what} | {least / 1e6:.1f} MB | {times} |")
    return "\n".join(lines)
