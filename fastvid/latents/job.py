"""Everything that caching needs, opened from the options; the manifest is written, or compared with."""

import os
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from fastvid.command import UserError, user_errors
from fastvid.data import EpochOrder, Source
from fastvid.data.inventory import FILE as INVENTORY
from fastvid.data.inventory import Inventory, with_named_videos
from fastvid.data.storage.remote import without_secrets
from fastvid.data.worker_pool import default_threads
from fastvid.latents import LatentManifest
from fastvid.latents.compute import Draws, LatentMaker, ViewDraws, decoded
from fastvid.latents.config import CacheConfig, CacheData, projection_dim
from fastvid.latents.disk_store import shard_names
from fastvid.latents.manifest import MANIFEST, dataset_hash, differences, view_facts, view_spec
from fastvid.latents.projection import FILE, Projection, fit_pca, random_orthonormal, restore, store
from fastvid.models.fingerprint import teacher_fingerprint
from fastvid.train.precision import autocast_dtype, precision_name

_PROJECTION_DRAW = 2**31  # an epoch that no training comes to


@dataclass(frozen=True)
class Shard:
    """One unit of work.

    Attributes:
        number: among the source's shards.
        name: of its file, without suffix.
        rows: its samples.
    """

    number: int
    name: str
    rows: range


@dataclass
class Job:
    """A cache in the making, or to be verified.

    Attributes:
        folder: folder of the cache.
        manifest: of the cache.
        source: all videos.
        draws: which views.
        maker: the teacher.
        projection: on the teacher's device, or None.
        threads: for decoding.
    """

    folder: Path
    manifest: LatentManifest
    source: Source
    draws: Draws
    maker: LatentMaker
    projection: Projection | None
    threads: int

    def shards(self) -> list[Shard]:
        """Return the shards that hold any samples."""
        sizes = self.source.shard_sizes
        ranges = [range(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]
        names = shard_names(self.source)
        return [Shard(k, name, rows) for k, (name, rows) in enumerate(zip(names, ranges, strict=True)) if rows]


def open_job(config: CacheConfig, *, write: bool) -> Job:
    """Open source, teacher and projection.

    Args:
        config: the options.
        write: begin the cache, see :func:`begin`; without it nothing is written, and a projection that is not there yet
            is drawn at random, which is enough for a plan.

    Raises:
        UserError: an option is wrong, or the folder holds a cache made with other ones.
        FileNotFoundError: no videos, or no teacher.
    """
    from fastvid.models.teachers import load_teacher  # and timm with it, which who fine-tunes does not need

    with user_errors(ValueError):
        spec = config.data.views(config.teacher)
        source = config.data.open()
        teacher = load_teacher(config.teacher, frames=spec.frames, size=spec.size)
    draws = ViewDraws(spec, config.seed, config.views)
    device = compute_device()
    precision = compute_precision(config.precision, device)
    maker = LatentMaker(teacher, device, precision, config.batch)
    threads = config.data.threads or default_threads()
    width = projection_dim(config.projection)
    if width is not None and width > teacher.dim:
        raise UserError(f"projection {config.projection}: the teacher's latents have only {teacher.dim} dimensions")
    grid_tokens = teacher.grid[0] * teacher.grid[1] * teacher.grid[2]
    facts: dict[str, Any] = {
        **teacher_fingerprint(teacher), "layer": "last", "precision": precision, "grid": teacher.grid,
        "views": view_facts(spec), "view_seed": config.seed, "views_per_clip": config.views, "form": config.form,
        "projection": config.projection, "projection_hash": "", "dim": width or teacher.dim,
        "tokens": max(1, round(config.tokens * grid_tokens)), "token_seed": config.seed,
        "dataset": dataset_hash(config.data.path, source), "clips": len(source.samples),
        "shards": sum(size > 0 for size in source.shard_sizes),
    }  # fmt: skip
    if (config.out / MANIFEST).exists():
        with user_errors(ValueError):
            manifest = LatentManifest.load(config.out)
        wanted = {name: value for name, value in facts.items() if name != "projection_hash"}
        lines = differences(manifest.facts, wanted, "these options")
        refuse_differences(config.out, with_named_videos(lines, config.out, source))
    notes = {"teacher_source": config.teacher, "data_path": without_secrets(config.data.path)}
    projection = None if width is None else random_orthonormal(teacher.dim, width, config.seed).to(device)
    job = Job(config.out, LatentManifest(**facts, notes=notes), source, draws, maker, projection, threads)
    return begin(config, job) if write else _with_projection(job)


def begin(config: CacheConfig, job: Job) -> Job:
    """Write the manifest of a new cache, after fitting its projection. Files that another process wrote stay.

    Raises:
        UserError: what is there was made with other options, or no clip can be decoded to fit a projection on.
        OSError: the folder cannot be written to.
    """
    folder = job.folder
    if job.projection is not None and not (folder / FILE).exists():
        store(folder, _make_projection(config, job))
    job = _with_projection(job)
    folder.mkdir(parents=True, exist_ok=True)
    job.manifest.save(folder)
    if not (folder / INVENTORY).exists():
        Inventory.of(job.source).save(folder)
    with user_errors(ValueError):
        found = LatentManifest.load(folder)  # another process may have been first
    refuse_differences(folder, differences(found.facts, job.manifest.facts, "these options"))
    return job


def _with_projection(job: Job) -> Job:
    """Return the job with the projection from its folder, if it has one."""
    if job.projection is None or not (job.folder / FILE).exists():
        return job
    with user_errors(ValueError):
        projection, found = restore(job.folder)
    notes = {**job.manifest.notes, "projection": projection.kept}
    manifest = replace(job.manifest, projection_hash=found, notes=notes)
    return replace(job, manifest=manifest, projection=projection.to(job.maker.device))


def reopen_job(folder: Path, teacher: str, data: CacheData) -> Job:
    """Open the source and teacher of an existing cache. All but the places come from its manifest.

    Raises:
        UserError: these are not the teacher and videos it was made from.
        FileNotFoundError: something is not there.
    """
    from fastvid.models.teachers import load_teacher

    with user_errors(ValueError):
        manifest = LatentManifest.load(folder)
        spec = view_spec(manifest.views)
        source = data.open()
        model = load_teacher(teacher, frames=spec.frames, size=spec.size)
    wanted = {**teacher_fingerprint(model), "dataset": dataset_hash(data.path, source)}
    lines = differences(manifest.facts, wanted, "these options")
    refuse_differences(folder, with_named_videos(lines, folder, source))
    device = compute_device()
    projection = None
    if manifest.projection != "none":
        with user_errors(ValueError):
            projection, found = restore(folder)
        if found != manifest.projection_hash:
            raise UserError(f"{folder / FILE} is not the projection that {MANIFEST} names")
        projection = projection.to(device)
    draws = ViewDraws(spec, manifest.view_seed, manifest.views_per_clip)
    maker = LatentMaker(model, device, manifest.precision, 1)
    return Job(folder, manifest, source, draws, maker, projection, data.threads or default_threads())


def compute_device() -> torch.device:
    """Return this process's GPU among those of its machine, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    return torch.device("cuda", local % torch.cuda.device_count())


def compute_precision(precision: str, device: torch.device) -> str:
    """Return ``"float32"`` or ``"bfloat16"``. By default the latter is used only on GPUs that support it, as in
    training.
    """
    return precision_name(autocast_dtype(precision, device))


def refuse_differences(folder: Path, lines: list[str]) -> None:
    """Raise UserError with the lines, if there are any."""
    if lines:
        raise UserError(
            f"the latents in {folder} were made for something else:\n  "
            + "\n  ".join(lines)
            + "\nchange the options, or use another folder"
        )


def _make_projection(config: CacheConfig, job: Job) -> Projection:
    """Return the projection of a new cache, measured on clips chosen by the seed."""
    kind, maker, source, width = config.projection.partition(":")[0], job.maker, job.source, job.manifest.dim
    clips = config.projection_clips if kind == "pca" else maker.batch
    ranked = EpochOrder(config.seed, _PROJECTION_DRAW, [len(source.samples)])[:clips]
    one_view = ViewDraws(config.data.views(config.teacher), config.seed, 1)

    def batches():
        pixels = []
        for clip in decoded(source, sorted(ranked), one_view, threads=job.threads, ahead=2 * maker.batch):
            pixels += [p for p in clip.pixels if p is not None]
            if len(pixels) >= maker.batch:
                yield maker.teach(pixels).flatten(0, 1)
                pixels = []
        if pixels:
            yield maker.teach(pixels).flatten(0, 1)

    if kind == "pca":
        return fit_pca(batches(), width)
    assert job.projection is not None
    projection = job.projection.to(torch.device("cpu"))  # drawn when the job was opened
    for tokens in batches():
        projection.measure(tokens.cpu())
        break
    return projection
