"""The shards of a cache: which are missing, whose they are, and making them here or on a Ray cluster."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from fastvid.command import UserError, user_errors
from fastvid.data.loader.batch import Latents
from fastvid.data.loader.decode_ahead import NO_VIEW, SampleViews, decode_ahead
from fastvid.files import write_whole
from fastvid.latents.compute import quantize
from fastvid.latents.config import CacheConfig
from fastvid.latents.file import LatentFile, LatentFileWriter, empty_latents
from fastvid.latents.job import CacheJob, Shard, open_job
from fastvid.latents.stores import bad_list, read_bad

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Done:
    """The result of a shard.

    Attributes:
        clips: with latents.
        bad: views without.
    """

    clips: int
    bad: int


def latent_path(job: CacheJob, shard: Shard) -> Path:
    """Return where the latents of a shard are, or will be."""
    return job.folder / f"{shard.name}.safetensors"


def unfinished_shards(job: CacheJob, shards: Sequence[Shard], *, retry_bad: bool) -> list[Shard]:
    """Return the shards that are not finished, and with ``retry_bad`` those that have bad clips."""
    paths = [(shard, latent_path(job, shard)) for shard in shards]
    return [shard for shard, path in paths if not path.exists() or (retry_bad and bad_list(path).exists())]


def shards_of_rank(shards: Sequence[Shard], rank: int, world: int) -> list[Shard]:
    """Return every ``world``-th shard from ``rank`` on. Finished shards count too, so that processes which begin at
    different times share them in the same way.
    """
    return list(shards[rank::world])


def make_shard(job: CacheJob, shard: Shard, progress: Progress = lambda clips: None) -> Done:
    """Make the latents of a shard, or add those that are missing in it.

    The file and the list of bad clips appear complete or not at all; a kill at any moment leaves the shard as it was.

    Args:
        job: what to make.
        shard: which.
        progress: called with the number of clips done since the last call.

    Raises:
        UserError: nothing can be read, latents are not finite or do not fit the form, or the file that is there is
            damaged.
    """
    path = latent_path(job, shard)
    with user_errors(ValueError):
        before = LatentFile(path, job.manifest) if path.exists() else None
    bad: list[dict] = []
    count = 0
    with LatentFileWriter(path, job.manifest) as writer:
        for key, hashes, latents, records in _clips(job, shard.rows, before):
            bad += records
            if latents is not None:
                writer.add(key, hashes, latents)
                count += 1
            progress(1)
        if not count and {record["reason"] for record in bad} == {"read"}:  # the disk's or the server's trouble
            raise UserError(f"{shard.name}: none of its clips can be read, the last is {bad[-1]['detail']}; not done")
        if before is None:  # a shard that is there has its list, also after a kill between the two
            _write_bad(bad_list(path), bad)
            writer.commit()
        else:
            writer.commit()
            _write_bad(bad_list(path), bad)
    return Done(count, len(bad))


Row = tuple[str, list[int], Latents | None, list[dict]]


def _clips(job: CacheJob, rows: range, before: LatentFile | None) -> Iterator[Row]:
    """Yield each sample of a shard: its key, hashes, latents (None where no view could be decoded), and its bad
    views."""
    if before is None:
        yield from computed(job, rows)
        return
    with user_errors(ValueError):
        index = before.index()
    places = {key: row for row, key in enumerate(index.keys)}
    whole = {key for key, row in places.items() if (index.view_hashes[row] != NO_VIEW).all()}
    for position in rows:
        key = job.source.samples[position].key
        if key not in whole:
            yield from computed(job, [position])
            continue
        latents = empty_latents(job.manifest, job.manifest.views_per_clip)
        with user_errors(ValueError):
            for view in range(job.manifest.views_per_clip):
                before.read(index, places[key], view, latents, view)
        yield key, index.view_hashes[places[key]].tolist(), latents, []


def computed(job: CacheJob, rows: Sequence[int]) -> Iterator[Row]:
    """Yield the key, view hashes, latents (None where no view could be decoded) and bad views of these samples,
    computed now."""
    group = job.group
    stream = decode_ahead(job.source, rows, job.draws, group=group, threads=job.threads, device=job.encoder.device)
    while clips := list(islice(stream, group)):
        yield from encoded(job, clips)


def encoded(job: CacheJob, clips: list[SampleViews]) -> Iterator[Row]:
    """Run the encoder on some clips' views: key, hashes, latents and bad views of each."""
    pixels = [p for clip in clips for p in clip.pixels if p is not None]
    latents = job.compute(pixels) if pixels else torch.empty(0)
    first = 0
    for clip in clips:
        good = sum(h != NO_VIEW for h in clip.hashes)
        records = [
            {"key": clip.sample.key, "view": view, "reason": error.reason, "detail": error.detail}
            for view, error in clip.errors.items()
        ]
        made = quantize(job.manifest, clip, latents[first : first + good]) if good else None
        first += good
        yield clip.sample.key, clip.hashes, made, records


def _write_bad(path: Path, records: list[dict]) -> None:
    if not records:
        path.unlink(missing_ok=True)
        return
    write_whole(path, "".join(json.dumps(record) + "\n" for record in records).encode())


def count_bad(job: CacheJob) -> int:
    """Return the number of views of all finished shards that have no latents."""
    return sum(len(read_bad(bad_list(latent_path(job, shard)))) for shard in job.shards())


class _RayWorker:
    """A process of a Ray cluster, with a teacher of its own."""

    def __init__(self, config: CacheConfig):
        self.job = open_job(config, write=True)

    def make(self, shard: Shard) -> tuple[Shard, Done]:
        self.job.source.prefetch([shard.number], [])
        return shard, make_shard(self.job, shard)


def make_with_ray(config: CacheConfig, shards: list[Shard], finished: Callable[[Shard, Done], None]) -> None:
    """Make shards on ``config.ray_workers`` workers; a worker that dies is started again and its shard begun anew.

    Paths in the options must mean the same on all machines. The cluster is the one that ``RAY_ADDRESS`` names, or one
    that is started on this machine and stopped in the end.

    Args:
        config: the options.
        shards: to be made.
        finished: called with each and what came of it, in the order in which they are finished.

    Raises:
        UserError: Ray is not installed.
    """
    try:
        import ray
        from ray.util import ActorPool
    except ImportError as error:
        raise UserError("--ray needs Ray: pip install 'fastvid[ray]', or run without it") from error
    ray.init(ignore_reinit_error=True, logging_level=logging.WARNING, include_dashboard=False)
    try:
        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= config.ray_workers else 0
        kind = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=3, max_task_retries=3)(_RayWorker)
        workers = [kind.remote(config) for _ in range(min(config.ray_workers, len(shards)))]
        for shard, done in ActorPool(workers).map_unordered(lambda worker, shard: worker.make.remote(shard), shards):
            finished(shard, done)
    finally:
        ray.shutdown()
