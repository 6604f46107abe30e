"""fVLM's training steps as published, fastvid's, and fastvid's with compiled parts, as a Markdown table.

python -m benchmarks.training.fvlm_steps --threads 2              # small models in float32
python -m benchmarks.training.fvlm_steps --device cuda            # the published sizes in bfloat16
"""

import argparse
from collections.abc import Callable

import torch

from benchmarks.harness import devices
from benchmarks.harness.gpu_timing import GpuTimer
from benchmarks.harness.timing import CALL, Call, CpuTimer
from benchmarks.training.fvlm_sides import OURS, PUBLISHED, SIZES, Training, answering, check_same, joint, make_batch

COMPILED = "compiled"


def steps(device: torch.device) -> dict[str, Callable[[], dict[str, Training]]]:
    """Return what makes both sides of each step, by its title."""
    small = {"quarter": SIZES["quarter"], "narrow": SIZES["narrow"]}
    found: dict[str, Callable[[], dict[str, Training]]] = {}
    for name, size in small.items() if device.type == "cpu" else {"base": SIZES["base"]}.items():
        found[f"joint, {name}"] = lambda size=size: joint(size, device)  # type: ignore[misc]
        if name == "narrow":
            continue
        pictures = max(8, size.clips)
        found[f"four questions of a clip, {name}"] = lambda size=size: answering(  # type: ignore[misc]
            size, device, make_batch(size, device, questions=4)
        )
        found[f"{pictures} still images, {name}"] = lambda size=size, pictures=pictures: answering(  # type: ignore[misc]
            size, device, make_batch(size, device, stills=True, clips=pictures)
        )
    return found


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
    for title, make in steps(torch.device(given.device)).items():
        sides = make()
        check_same(sides)
        sides[COMPILED] = make()[OURS].compiled()
        check_same({OURS: sides[COMPILED], PUBLISHED: sides[PUBLISHED]})
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
