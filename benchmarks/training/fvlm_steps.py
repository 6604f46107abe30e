"""fVLM's training steps as published, fastvid's, and fastvid's with compiled parts, as a Markdown table.

    python -m benchmarks.training.fvlm_steps --threads 2              # small models in float32
    python -m benchmarks.training.fvlm_steps --device cuda            # the published sizes in bfloat16

All variants of a step have the same weights, and losses and gradients are compared before anything is timed.
"""

import argparse

import torch

from benchmarks.harness import devices
from benchmarks.harness.gpu_timing import GpuTimer
from benchmarks.harness.timing import CALL, Call, CpuTimer
from benchmarks.training.fvlm_sides import (
    COMPILED,
    JOINT_STEP,
    OURS,
    PUBLISHED,
    SIZES,
    STEPS,
    add_compiled,
    check_same,
    steps,
)

PICTURES = 8  # as many as a published step has clips
# Sizes of each device, and the steps of which they say something: see SIZES.
MEASURED: dict[str, dict[str, tuple[str, ...]]] = {
    "cpu": {"quarter": STEPS, "narrow": (JOINT_STEP,)},
    "cuda": {"base": STEPS},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU's arithmetic")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    facts = devices.describe(devices.find(given.device))
    print(f"{facts['name']}, torch {torch.__version__}, {facts['date']}\n")
    print("| step | as published | fastvid | | compiled | |\n|---|---|---|---|---|---|")
    made = {
        f"{name}, {size}": make
        for size, chosen in MEASURED[given.device].items()
        for name, make in steps(SIZES[size], torch.device(given.device), PICTURES).items()
        if name in chosen
    }
    for title, make in made.items():
        sides = make()
        check_same(sides)
        add_compiled(sides, make)
        calls = {name: Call(side.step, capture=False) for name, side in sides.items()}
        timer = (GpuTimer if given.device == "cuda" else CpuTimer)(calls)
        ms = {name: timed.compared for name, timed in timer.times(given.rounds)[CALL].items()}
        published, ours, compiled = ms[PUBLISHED], ms[OURS], ms[COMPILED]
        print(
            f"| {title} | {published:.0f} ms | {ours:.0f} ms | {published / ours:.2f}x | {compiled:.0f} ms | "
            f"{published / compiled:.2f}x |",
            flush=True,
        )


if __name__ == "__main__":
    main()
