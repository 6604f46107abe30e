"""Loading clips from the same tar shards: fastvid and its peers, clips/s, memory and time to the first batch.

    python -m benchmarks.loading.loaders --out loaders.json

Each side runs in a process of its own, the sides take turns, several rounds; see
:mod:`benchmarks.loading.loader_peers`. A round before them is for memory alone, since adding up a process's pages takes
time from what is measured. Memory is the largest sum of the anonymous memory of the side's process and its children
(what several share counted once) and of all shared memory that the machine has more than before (``/dev/shm``, and
rings without a name), less what a process with torch imported takes by itself.
"""

import argparse
import io
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from benchmarks.loading.loader_peers import SIDES, memory_of
from fastvid.data import ShardWriter

_KINDS = {
    "h264": ("libx264", "mp4", {"g": "12", "crf": "20", "preset": "veryfast"}),
    "vp9": ("libvpx-vp9", "webm", {"g": "12", "b:v": "600k", "deadline": "realtime", "cpu-used": "8"}),
}


def write_shards(folder: Path, kind: str, videos: int, frames: int) -> None:
    """Write videos of 320 x 256 pixels at 25 frames a second: a moving, textured picture with some noise."""
    rng = np.random.default_rng(0)
    picture = random_picture(rng)
    with ShardWriter(folder, "s", shard_bytes=8 << 20) as writer:
        for number in range(videos):
            writer.add(f"{number:04d}", f".{_KINDS[kind][1]}", encode(picture, kind, number, frames, rng))


def random_picture(rng: np.random.Generator) -> np.ndarray:
    """Draw uint8 [640, 960, 3] of squares of 16 x 16 pixels."""
    return rng.integers(0, 256, (40, 60, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)


def encode(picture: np.ndarray, kind: str, number: int, frames: int, rng: np.random.Generator) -> bytes:
    """Return one video file of the kind: a window of 320 x 256 pixels moves over the picture, as its number says."""
    codec, container, options = _KINDS[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = cast(av.VideoStream, out.add_stream(codec, rate=25, options=options))
        stream.width, stream.height, stream.pix_fmt = 320, 256, "yuv420p"
        for t in range(frames):
            top, left = (3 * t + 17 * number) % 384, (5 * t + 29 * number) % 640
            view = picture[top : top + 256, left : left + 320].astype(np.int16) + rng.integers(-6, 7, (256, 320, 1))
            frame = av.VideoFrame.from_ndarray(np.clip(view, 0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = t, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def run(side: str, folder: Path, batch: int, workers: int, seconds: float, *, watch: bool) -> dict:
    """Measure one side once: its memory where it is watched, else its speed; ``{"error": ...}`` where it cannot be
    used.
    """
    command = [sys.executable, "-m", "benchmarks.loading.loader_peers", side, str(folder)]
    command += ["--batch", str(batch), "--workers", str(workers), "--seconds", str(seconds)]
    shared_before, most, most_shared = _shared(), 0.0, 0.0
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(command, stdout=output, stderr=complaints)
        deadline = time.monotonic() + 180 + 10 * seconds
        while process.poll() is None:
            if watch:
                shared = _shared() - shared_before
                most = max(most, sum(map(memory_of, _tree(process.pid))) + shared)
                most_shared = max(most_shared, shared)
            if time.monotonic() > deadline:
                process.kill()
            time.sleep(0.5)
        output.seek(0)
        complaints.seek(0)
        out, errors = output.read(), complaints.read()
    if process.returncode:
        return {"error": errors.strip().splitlines()[-1][:200] if errors.strip() else f"exit code {process.returncode}"}
    measured = json.loads(out.splitlines()[-1])
    if watch:
        return {"memory_mb": most / 1e6 - measured["base_mb"], "shared_mb": most_shared / 1e6}
    return {"clips_per_s": measured["clips"] / measured["seconds"], "first_batch_s": measured["first_batch_s"]}


def _shared() -> int:
    """Return the bytes of shared memory that the machine has in use."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("Shmem:"))
    return 1024 * int(line.split()[1])


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        children += [c for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(p for child in {int(c) for c in children} for p in _tree(child))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=_KINDS, default="h264")
    parser.add_argument("--videos", type=int, default=48)
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="write the rows as JSON here")
    a = parser.parse_args()
    runs: dict[str, list[dict]] = {side: [] for side in [*SIDES, "fastvid, one thread", "decoders alone, one thread"]}
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), a.kind, a.videos, a.frames)
        for number in range(1 + a.rounds):
            for side, made in runs.items():
                if not any("error" in run for run in made):
                    workers = 1 if side.endswith("one thread") else a.workers
                    name = side.split(",")[0]
                    made.append(run(name, Path(folder), a.batch, workers, a.seconds, watch=number == 0))
    rows = {side: _median(made) for side, made in runs.items()}
    print(f"{a.kind}, {a.videos} videos of {a.frames} frames, batches of {a.batch}, {a.workers} workers or threads")
    print("| side | clips/s | memory, MB | shared of it, MB | first batch, s |\n|---|---|---|---|---|")
    for side, row in rows.items():
        if "error" in row:
            print(f"| {side} | not usable: {row['error']} | | | |")
        else:
            numbers = "{clips_per_s:.1f} | {memory_mb:.0f} | {shared_mb:.0f} | {first_batch_s:.2f}".format(**row)
            print(f"| {side} | {numbers} |")
    if a.out:
        facts = {"processor": platform.processor() or platform.machine(), "options": vars(a), "rows": rows}
        Path(a.out).write_text(json.dumps(facts, indent=1) + "\n")


def _median(runs: list[dict]) -> dict:
    if any("error" in run for run in runs):
        return next(run for run in runs if "error" in run)
    watched, *timed = runs
    return watched | {name: statistics.median(run[name] for run in timed) for name in timed[0]}


if __name__ == "__main__":
    main()
