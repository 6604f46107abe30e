"""Speed of ``python -m fastvid.encode`` beside that of decoding its videos alone.

    python -m benchmarks.loading.encode_speed RUN VIDEOS --rounds 3

Both sides decode the same views of the same videos; one of them also runs the encoder and writes the features. They
take turns. On a CPU the encoder takes its time from the decoder; beside a GPU the ratio is 1 where the GPU keeps up.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from pkgutil import resolve_name

import torch

from fastvid.data import EvaluationDraws, open_parts
from fastvid.data.loader.decode_ahead import decode_ahead
from fastvid.encode import main as encode
from fastvid.projects.load import find_saved


def main() -> None:
    """Measure and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("videos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    project, folder = find_saved(options.run)
    views = resolve_name(project.load)(folder).views
    source = open_parts(options.videos, None)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seconds: dict[str, list[float]] = {"decoded": [], "encoded": []}
    for _ in range(options.rounds):
        begun = time.perf_counter()
        draws, rows = EvaluationDraws(views, 1), range(len(source.samples))
        for _ in decode_ahead(source, rows, draws, group=32, threads=options.threads, device=device):
            pass
        seconds["decoded"].append(time.perf_counter() - begun)
        with tempfile.TemporaryDirectory() as out:
            begun = time.perf_counter()
            arguments = [str(options.run), options.videos, "--out", f"{out}/features"]
            encode([*arguments, "--threads", str(options.threads)])
            seconds["encoded"].append(time.perf_counter() - begun)
    speeds = {name: len(source.samples) / statistics.median(times) for name, times in seconds.items()}
    print(", ".join(f"{name}: {speed:.1f} videos/s" for name, speed in speeds.items()), end="; ")
    print(f"{speeds['encoded'] / speeds['decoded']:.2f} of the decoder's speed")


if __name__ == "__main__":
    main()
