"""Features: the output of a model's frozen part for a data set's views, computed once, in memory or on the disk."""

import fcntl
import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastvid.data import Quarantine, Source
from fastvid.data.loader.views import Draws
from fastvid.files import existing
from fastvid.latents.compute import FrozenEncoder, FrozenModule
from fastvid.latents.job import CacheJob
from fastvid.latents.manifest import Form, LatentManifest, size_of
from fastvid.latents.shards import computed, make_shard, shards_of_rank, unfinished_shards
from fastvid.latents.stores import LatentCache, LatentStore, MemoryLatents, bad_clips
from fastvid.train.distributed import World, barrier
from fastvid.units import size
from fastvid.video import DecodeError

log = logging.getLogger(__name__)

Where = Literal["memory", "disk", "none"]
_SPARE = 1 << 30  # bytes of a disk that are left free


@dataclass(frozen=True)
class FeatureSet:
    """Some videos, some views of each, and what a frozen module is to make of them.

    Attributes:
        name: for progress and messages.
        source: the videos.
        draws: the views.
    """

    name: str
    source: Source
    draws: Draws

    def manifest(self, module: FrozenModule, *, precision: str, form: Form) -> LatentManifest:
        """Return what the features depend on."""
        keys = hashlib.sha256()
        for row, sample in enumerate(self.source.samples):
            keys.update(f"{sample.key}\0{size_of(self.source, row)}\0{self.draws.cache_key(sample)}\n".encode())
        T, H, W = module.grid
        return LatentManifest(
            teacher=module.kind, weights=module.weights, layer=module.layer, precision=precision, grid=module.grid,
            views=self.draws.fingerprint, view_seed=self.draws.seed, views_per_clip=self.draws.count, form=form,
            projection="none", projection_hash="", dim=module.dim, tokens=T * H * W,
            token_seed=0, dataset=f"keys and sizes {keys.hexdigest()}", clips=len(self.source.samples),
            shards=sum(count > 0 for count in self.source.shard_sizes),
        )  # fmt: skip


@dataclass(frozen=True)
class FeatureStorage:
    """The place of features: memory or disk.

    Attributes:
        where: ``"memory"`` or ``"disk"``.
        folder: for the disk.
        form: how an element is stored.
    """

    where: Where
    folder: Path
    form: Form


def features_bytes(manifest: LatentManifest) -> int:
    """Return the bytes of the features of all views of all clips."""
    return manifest.clips * manifest.views_per_clip * manifest.view_bytes


def choose_place(needed: int, *, memory: int, disk: int, folder: Path) -> tuple[Where, str]:
    """Choose where features go: into memory if they fit its budget, else on the disk if they fit that, else nowhere.

    Args:
        needed: bytes of all features.
        memory: most bytes in memory.
        disk: most bytes on the disk.
        folder: where the disk would be written to.

    Returns:
        The place, and a sentence about it.
    """
    free = shutil.disk_usage(existing(folder)).free
    if needed <= memory:
        return "memory", f"features take {size(needed)} of memory"
    if needed <= min(disk, free - _SPARE):
        return "disk", f"features take {size(needed)}, more than {size(memory)} of memory: they go to {folder}"
    return "none", (
        f"features would take {size(needed)}, more than {size(memory)} of memory and {size(min(disk, free))} of disk "
        f"({folder}): the frozen parts are computed anew in every epoch"
    )


def make_features(
    encoder: FrozenEncoder,
    wanted: FeatureSet,
    storage: FeatureStorage,
    *,
    threads: int,
    quarantine: Quarantine,
    world: World,
    progress: Callable[[int], None] = lambda clips: None,
    check: Callable[[], None] = lambda: None,
) -> LatentStore:
    """Compute features, or read those that are already on the disk.

    On the disk they are a cache of latents in a sub-folder of ``folder`` named after all they depend on: several runs,
    also at the same time, can share the folder, and one that was stopped goes on where it was.

    Args:
        encoder: what computes them.
        wanted: the videos and views.
        storage: where they are kept.
        threads: for decoding.
        quarantine: where clips that do not decode go; they have no features.
        world: the processes that share the work: on the disk each makes a part of what is missing.
        progress: called with the number of clips done since the last call.
        check: called between clips; may raise to stop.

    Raises:
        TooManyBadSamples: by the quarantine's policy.
        ValueError: features are not finite, or what is on the disk is damaged.
    """
    manifest = wanted.manifest(encoder.frozen, precision=encoder.precision, form=storage.form)
    folder = storage.folder / f"{wanted.name}-{manifest.fingerprint[:16]}"
    job = CacheJob(folder, manifest, wanted.source, wanted.draws, encoder, None, threads)
    started = time.perf_counter()
    if storage.where == "memory":
        store: LatentStore = _in_memory(job, quarantine, progress, check)
    else:
        _make_share(job, world, progress, check)
        barrier(world)
        store = _open(job, quarantine)
    log.info("features of %s: %s in %.1f s", wanted.name, size(features_bytes(manifest)), time.perf_counter() - started)
    return store


def _in_memory(job: CacheJob, quarantine: Quarantine, progress, check) -> MemoryLatents:
    store = MemoryLatents(job.manifest)
    for key, hashes, latents, bad in computed(job, range(job.manifest.clips)):
        check()
        _note(quarantine, key, bad)
        if latents is not None:
            store.add(key, hashes, latents)
        progress(1)
    return store


def _make_share(job: CacheJob, world: World, progress, check) -> None:
    def count(clips: int) -> None:
        check()
        progress(clips)

    job.folder.mkdir(parents=True, exist_ok=True)
    job.manifest.save(job.folder)
    shards = shards_of_rank(job.shards(), world.rank, world.size)
    unfinished = unfinished_shards(job, shards, retry_bad=False)
    progress(sum(len(shard.rows) for shard in shards) - sum(len(shard.rows) for shard in unfinished))
    for shard in unfinished:
        # A second run that wants the same shard waits for it: one that replaced it would pull it away from its readers.
        with (job.folder / f".{shard.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if unfinished_shards(job, [shard], retry_bad=False):
                make_shard(job, shard, count)


def _open(job: CacheJob, quarantine: Quarantine) -> LatentCache:
    bad = bad_clips(job.folder)
    for sample in job.source.samples:
        _note(quarantine, sample.key, [bad[sample.key]] if sample.key in bad else [])
    return LatentCache(job.folder)


def _note(quarantine: Quarantine, key: str, bad: list[dict]) -> None:
    if not bad:
        quarantine.count_good(key)
    for record in bad[:1]:
        quarantine.add(key, DecodeError(record["reason"], record["detail"]))
