"""Disk and memory of training on shards of ``torch.save``: packed by fastvid and loaded, and loaded as they are.

    python -m benchmarks.loading.picture_shards [--shards 2] [--samples 200] [--workers 4] [--save FILE]

Made shards of the published size: 200 samples of 24 frames of 256 x 256 pixels with bfloat16 latents, about 1 GB each.
They are packed by ``python -m fastvid.data pack --format pt`` with as many processes as there are workers; then clips
of 8 frames with their latents are loaded by fastvid, with as many threads, and, as their users load them, by a
DataLoader whose workers each load whole shards and give normalised float32 clips. Memory is the largest sum over the
processes of a side, pages that several share counted once: all of it, and what is not a mapped file, which the system
takes back when it needs room.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

FRAMES, SIDE, USED, BATCH = 24, 256, 8, 16
_SECONDS = 10.0  # for which a side loads


def make_shard(path: Path, samples: int, seed: int) -> None:
    """Write a shard: windows that move over pictures with detail of every size, as in photographs."""
    import torch

    random = torch.Generator().manual_seed(seed)
    made = []
    for number in range(samples):
        picture = torch.zeros(3, SIDE + FRAMES, SIDE + FRAMES)
        for cells in (4, 16, 64, SIDE + FRAMES):
            noise = torch.randn(1, 3, cells, cells, generator=random)
            picture += torch.nn.functional.interpolate(noise, size=picture.shape[1:], mode="bilinear")[0] * cells**-0.5
        pixels = (128 + 90 * picture / picture.std()).clamp(0, 255).byte()
        frames = torch.stack([pixels[:, at : at + SIDE, at : at + SIDE] for at in range(FRAMES)])
        latents = torch.randn(FRAMES, 4, 32, 32, generator=random).bfloat16()
        made.append({"frames": frames.clone(), "latents": latents, "caption": f"number {number}"})
    torch.save({"samples": made, "count": samples}, path)


def load_packed(folder: Path, workers: int) -> dict[str, float]:
    """Load the packed shards with fastvid."""
    from fastvid.data import (
        ChatFormat,
        DecodeOptions,
        EpochSampler,
        PaddedDraws,
        TextChoice,
        TextCollator,
        TrainLoader,
        open_described,
    )
    from fastvid.projects.fvlm.tokenizer import word_tokenizer
    from fastvid.video import ViewSpec

    spec = ViewSpec(frames=USED, size=SIDE, scale=(1, 1), ratio=(1, 1), flip=0.0)
    source = open_described(folder)
    sampler = EpochSampler(source.shard_sizes, batch=BATCH, seed=0)
    chat = ChatFormat(word_tokenizer(["number", "Describe the video."]))
    text = TextCollator(chat, TextChoice(latents=True))
    with TrainLoader(
        source, PaddedDraws(spec, 0), sampler, options=DecodeOptions(threads=workers), text=text
    ) as loader:
        return _timed(lambda: next(loader).clips)


def load_whole(folder: Path, workers: int) -> dict[str, float]:
    """Load the shards as they are: each worker takes whole files, and gives float32 clips."""
    import torch
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    class Whole(IterableDataset):
        def __iter__(self):
            info = get_worker_info()
            assert info is not None  # there are workers
            files = sorted(folder.glob("*.pt"))
            mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            while True:
                for number in range(info.id, len(files) * info.num_workers, info.num_workers):
                    for sample in torch.load(files[number % len(files)], weights_only=True)["samples"]:
                        used = torch.linspace(0, FRAMES - 1, USED).long()
                        yield (sample["frames"][used].float() / 255 - mean) / std, sample["latents"][used]

    batches = iter(DataLoader(Whole(), batch_size=BATCH, num_workers=workers))
    return _timed(lambda: next(batches)[0])


SIDES = {"packed": load_packed, "whole": load_whole}


def _timed(take) -> dict[str, float]:
    begin = time.perf_counter()
    take()
    first = time.perf_counter()
    batches = 0
    while time.perf_counter() - first < _SECONDS:
        take()
        batches += 1
    return {"first_batch_s": first - begin, "clips_per_s": batches * BATCH / (time.perf_counter() - first)}


def watched(command: list[str]) -> dict[str, float]:
    """Run a command. Return its seconds, its largest memory in GB, and the last line of its output where that is
    JSON."""
    begin = time.perf_counter()
    most = {"memory_gb": 0.0, "not_mapped_gb": 0.0}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def watch() -> None:
        while process.poll() is None:
            found = [_memory(pid) for pid in _tree(process.pid)]
            most["memory_gb"] = max(most["memory_gb"], sum(all_ for all_, _ in found) / 1e9)
            most["not_mapped_gb"] = max(most["not_mapped_gb"], sum(own for _, own in found) / 1e9)
            time.sleep(0.2)

    thread = threading.Thread(target=watch)
    thread.start()
    output, _ = process.communicate()
    thread.join()
    if process.returncode:
        raise SystemExit(f"{command} failed with exit code {process.returncode}")
    lines = output.strip().splitlines()
    said = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return {"seconds": time.perf_counter() - begin, **most, **said}


def _memory(pid: int) -> tuple[int, int]:
    """Return the bytes of a process, shared pages in proportion: all, and those that are not of a mapped file."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            fields = {line.split()[0]: int(line.split()[1]) * 1024 for line in file if line.startswith("Pss")}
    except OSError:  # it has ended
        return 0, 0
    return fields.get("Pss:", 0), fields.get("Pss_Anon:", 0) + fields.get("Pss_Shmem:", 0)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:  # it has ended
                continue
    return found


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Make shards, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(SIDES[options.side](options.folder, options.workers)))
        return
    with tempfile.TemporaryDirectory() as work:
        src, out = Path(work) / "src", Path(work) / "out"
        src.mkdir()
        for number in range(options.shards):
            make_shard(src / f"shard_{number:04d}.pt", options.samples, number)
        count, own = options.shards * options.samples, [sys.executable, "-m"]
        pack = ["fastvid.data", "pack", str(src), "--out", str(out), "--format", "pt", "--jobs", str(options.workers)]
        found = {"pack": watched([*own, *pack])}
        for side, folder in (("packed", out), ("whole", src)):
            arguments = ["--side", side, "--folder", str(folder), "--workers", str(options.workers)]
            found[side] = watched([*own, "benchmarks.loading.picture_shards", *arguments])
        sizes = {"torch.save": _bytes(src) / count, "packed": _bytes(out) / count}
    print(f"{options.shards} shards of {options.samples} samples, {options.workers} workers, {os.cpu_count()} cores")
    for name, size in sizes.items():
        print(f"{name}: {size / 1e6:.2f} MB a sample, {10e9 / size:,.0f} samples in 10 GB")
    for name, row in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in row.items()))
    if options.save:
        values = {"shards": options.shards, "samples": options.samples, "workers": options.workers, "sides": found}
        options.save.write_text(json.dumps({**values, "bytes_a_sample": sizes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
