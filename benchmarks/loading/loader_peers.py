"""One way to load clips from tar shards, in a process of its own.

    python -m benchmarks.loading.loader_peers SIDE FOLDER

Every side gives batches of 16-frame clips of 224 x 224 pixels, every fourth frame from a random start, a random resized
crop. They differ in how: the peers are written as their users write them, float32 batches from two worker processes.
Prints one line of JSON: seconds to the first batch, and clips and seconds after it.
"""

import argparse
import importlib
import io
import json
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FRAMES, STRIDE, SIZE = 16, 4, 224


def fastvid(folder: Path, batch: int, workers: int) -> Iterator:
    """Load with TrainLoader: one decoding process, threads, a ring of uint8."""
    from fastvid.data import DecodeOptions, EpochSampler, TrainLoader, ViewDraws, open_source
    from fastvid.video import ViewSpec

    spec = ViewSpec(frames=FRAMES, size=SIZE, sampling="stride", stride=STRIDE)
    source = open_source(folder)
    sampler = EpochSampler(source.shard_sizes, batch=batch, seed=0)
    with TrainLoader(source, ViewDraws(spec, 0), sampler, options=DecodeOptions(threads=workers)) as loader:
        for made in loader:
            yield made.clips


def decoders(folder: Path, batch: int, workers: int) -> Iterator:
    """Decode with fastvid's threads, in processes that know nothing of each other: what two cores of the machine are
    worth, whose memory and caches they share, and perhaps more. Nothing is brought together; only counts come back."""
    import numpy as np

    context = multiprocessing.get_context("spawn")
    clips = context.SimpleQueue()
    for number in range(workers):
        context.Process(target=_decode_for_ever, args=(folder, number, clips), daemon=True).start()
    while True:
        for _ in range(batch):
            clips.get()
        yield np.zeros((batch, 1))


def _decode_for_ever(folder: Path, number: int, clips) -> None:
    from itertools import count

    from fastvid.data import open_source
    from fastvid.data.source import read_video
    from fastvid.video import Limits, ViewSpec, decode_clips

    spec = ViewSpec(frames=FRAMES, size=SIZE, sampling="stride", stride=STRIDE)
    source = open_source(folder)
    rows = random.Random(number)
    for draw in count():
        row = rows.randrange(len(source.samples))
        data, info = read_video(source, row, Limits())
        for _ in decode_clips(data, [spec.draw(source.samples[row].key, number, draw, info)], info=info):
            clips.put(None)


def torch_pyav(folder: Path, batch: int, workers: int) -> Iterator:
    """Load with torch's DataLoader over a map-style data set that decodes with PyAV."""
    yield from _dataloader(Members(folder, _pyav), batch, workers)


def torch_torchcodec(folder: Path, batch: int, workers: int) -> Iterator:
    """Load with torch's DataLoader over a map-style data set that decodes with torchcodec."""
    yield from _dataloader(Members(folder, _torchcodec), batch, workers)


def torch_decord(folder: Path, batch: int, workers: int) -> Iterator:
    """Load with torch's DataLoader over a map-style data set that decodes with decord."""
    yield from _dataloader(Members(folder, _decord), batch, workers)


def webdataset(folder: Path, batch: int, workers: int) -> Iterator:
    """Use the webdataset library, with PyAV as decoder, in torch's DataLoader."""
    import webdataset as wds

    shards = sorted(map(str, folder.glob("*.tar")))
    stream = wds.WebDataset(shards, shardshuffle=len(shards), resampled=True).shuffle(64).to_tuple("mp4;webm")
    yield from _dataloader(stream.map(_webdataset_clip), batch, workers)


def dali(folder: Path, batch: int, workers: int) -> Iterator:
    """Load with DALI's dynamic mode on the CPU, which decodes VP8 and VP9."""
    import numpy as np
    import nvidia.dali.experimental.dynamic as ndd
    import torch

    members = Members(folder, _pyav)  # whose files alone are used
    ndd.set_num_threads(workers)
    while True:
        videos = [members.read(random.randrange(len(members))) for _ in range(batch)]
        data = ndd.batch([torch.frombuffer(bytearray(v), dtype=torch.uint8) for v in videos])
        starts = ndd.batch([np.int32(random.randint(0, 100)) for _ in range(batch)])
        decoded = ndd.decoders.video(data, device="cpu", start_frame=starts, stride=STRIDE, sequence_length=FRAMES)
        yield torch.stack([_finish(torch.as_tensor(clip.evaluate())) for clip in decoded])


SIDES: dict[str, Callable[[Path, int, int], Iterator]] = {
    "fastvid": fastvid,
    "DataLoader + PyAV": torch_pyav,
    "DataLoader + torchcodec": torch_torchcodec,
    "DataLoader + decord": torch_decord,
    "webdataset + PyAV": webdataset,
    "DALI on the CPU": dali,
    "decoders alone": decoders,
}


class Members:
    """The videos of a folder of shards, as a map-style data set of float32 clips [3, T, H, W]."""

    def __init__(self, folder: Path, decode: Callable):
        from fastvid.data import open_source

        self._source, self._decode = open_source(folder), decode

    def __len__(self) -> int:
        return len(self._source.samples)

    def read(self, index: int) -> bytes:
        return self._source.read(index)

    def __getitem__(self, index: int):
        return _finish(self._decode(self.read(index)))


def _webdataset_clip(row: tuple) -> object:
    return _finish(_pyav(row[0]))


def _frames(count: int) -> list[int]:
    start = random.randint(0, max(0, count - (FRAMES - 1) * STRIDE - 1))
    return [min(start + STRIDE * i, count - 1) for i in range(FRAMES)]


def _pyav(data: bytes):
    import av
    import numpy as np
    import torch

    with av.open(io.BytesIO(data), mode="r") as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        assert stream.time_base is not None
        per_frame = 1 / (stream.average_rate * stream.time_base)  # the rate of these videos is constant
        wanted = _frames(stream.frames or round((container.duration or 0) / 1e6 * stream.average_rate))
        container.seek(round(wanted[0] * per_frame), stream=stream)  # to the key frame before
        shown = []
        for frame in container.decode(stream):
            index = round((frame.pts or 0) / per_frame)
            if index in wanted:
                shown.append(frame.to_ndarray(format="rgb24"))
            if index >= wanted[-1]:
                break
    return torch.from_numpy(np.stack(shown))


def _torchcodec(data: bytes):
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(data, dimension_order="NHWC", num_ffmpeg_threads=1)
    return decoder.get_frames_at(_frames(len(decoder))).data


def _decord(data: bytes):
    import decord
    import torch

    reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
    return torch.from_numpy(reader.get_batch(_frames(len(reader))).asnumpy())


def _finish(clip):
    """Map uint8 [T, H, W, 3] to float32 [3, T, 224, 224]: a random crop, normalised."""
    import torch
    import torch.nn.functional as F

    height, width = clip.shape[1:3]
    side = int(min(height, width) * random.uniform(0.6, 1.0))
    top, left = random.randint(0, height - side), random.randint(0, width - side)
    video = clip[:, top : top + side, left : left + side].permute(0, 3, 1, 2).float() / 255
    video = F.interpolate(video, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((video - mean[:, None, None]) / std[:, None, None]).transpose(0, 1).contiguous()


def _dataloader(dataset, batch: int, workers: int) -> Iterator:
    import torch
    from torch.utils.data import DataLoader, IterableDataset

    torch.set_num_threads(1)
    shuffle = None if isinstance(dataset, IterableDataset) else True
    loader: DataLoader = DataLoader(
        dataset, batch_size=batch, shuffle=shuffle, num_workers=workers, persistent_workers=True, drop_last=True
    )
    while True:
        yield from loader


def memory_of(pid: int | str) -> float:
    """Return the anonymous memory of a process in bytes, with shared memory counted in proportion."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0.0
    fields = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
    return 1024.0 * int(fields["Pss_Anon"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0)
    arguments = parser.parse_args()
    importlib.import_module("torch")  # a training process has it
    base = memory_of("self") / 1e6
    begun = time.perf_counter()
    batches = SIDES[arguments.side](arguments.folder, arguments.batch, arguments.workers)
    first = next(batches)
    started = time.perf_counter()
    clips, checksum = 0, int(first[0].flatten()[0])
    while time.perf_counter() - started < arguments.seconds:
        made = next(batches)
        clips += len(made)
        checksum += int(made[-1].flatten()[-1])
    seconds = time.perf_counter() - started
    print(json.dumps({"base_mb": base, "first_batch_s": started - begun, "clips": clips, "seconds": seconds}))


if __name__ == "__main__":
    main()
