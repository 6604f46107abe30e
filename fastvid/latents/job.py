"""Everything that caching needs, opened from the options; the manifest is written, or compared with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastvid.command import UserError, user_errors
from fastvid.data import EpochOrder, Source, ViewDraws
from fastvid.data.inventory import FILE as INVENTORY
from fastvid.data.inventory import Inventory, with_named_videos
from fastvid.data.loader.decode_ahead import decode_ahead
from fastvid.data.loader.views import Draws
from fastvid.data.storage.remote import without_secrets
from fastvid.data.worker_pool import default_threads
from fastvid.latents.compute import FrozenEncoder, FrozenModule
from fastvid.latents.config import CacheConfig, CacheData, projection_dim
from fastvid.latents.manifest import MANIFEST, LatentManifest, dataset_hash, differences
from fastvid.latents.projection import FILE, Projection, fit_pca, random_orthonormal, restore, store
from fastvid.latents.stores import shard_names
from fastvid.models.block_numbers import name_blocks, parse_blocks
from fastvid.models.fingerprint import teacher_fingerprint
from fastvid.train.distributed import environment_number
from fastvid.train.precision import autocast_dtype, precision_name

if TYPE_CHECKING:
    from fastvid.models.teachers import Teacher

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
class CacheJob:
    """A cache in the making, or to be verified.

    Attributes:
        folder: folder of the cache.
        manifest: of the cache.
        source: all videos.
        draws: which views.
        encoder: the teacher.
        projection: on the teacher's device, or None.
        threads: for decoding.
    """

    folder: Path
    manifest: LatentManifest
    source: Source
    draws: Draws
    encoder: FrozenEncoder
    projection: Projection | None
    threads: int

    @property
    def group(self) -> int:
        """Return the number of clips whose views are one forward pass, at least 1."""
        return max(1, self.encoder.batch // self.draws.count)

    def compute(self, pixels: Sequence[np.ndarray]) -> torch.Tensor:
        """Return the latents of views uint8 [T, H, W, 3] as they are to be stored, but for the choice of tokens and the
        form: float32 [B, N, D'] on the encoder's device.
        """
        latents = self.encoder(pixels)
        return latents if self.projection is None else self.projection(latents)

    def shards(self) -> list[Shard]:
        """Return the shards that hold any samples."""
        sizes = self.source.shard_sizes
        ranges = [range(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]
        names = shard_names(self.source)
        return [Shard(k, name, rows) for k, (name, rows) in enumerate(zip(names, ranges, strict=True)) if rows]


def open_job(config: CacheConfig, *, write: bool) -> CacheJob:
    """Open source, teacher and projection.

    Args:
        config: the options.
        write: begin the cache, see :func:`begin`; without it nothing is written, and a projection that is not there yet
            is drawn at random, which is enough for a plan.

    Raises:
        UserError: an option is wrong, or the folder holds a cache made with other ones.
        FileNotFoundError: no videos, or no teacher.
    """
    from fastvid.models.teachers import (
        load_teacher,
        with_layers,
    )  # and timm with it, which who fine-tunes does not need

    with user_errors(ValueError):
        spec = config.data.views(config.teacher)
        source = config.data.open()
        teacher = load_teacher(
            config.teacher, frames=spec.frames, size=spec.size, patch=config.patch, tubelet=config.tubelet
        )
        teacher = with_layers(teacher, config.layers)
    draws = ViewDraws(spec, config.seed, config.views)
    device = compute_device()
    precision = precision_name(autocast_dtype(config.precision, device))
    threads = config.data.threads or default_threads()
    width = projection_dim(config.projection)
    if width is not None and width > teacher.dim:
        raise UserError(f"projection {config.projection}: the teacher's latents have only {teacher.dim} dimensions")
    grid_tokens = teacher.grid[0] * teacher.grid[1] * teacher.grid[2]
    encoder = FrozenEncoder(_frozen(teacher), device, precision, config.batch)
    fields: dict[str, Any] = {
        "teacher": encoder.frozen.kind, "weights": encoder.frozen.weights, "layer": encoder.frozen.layer,
        "precision": precision, "grid": teacher.grid,
        "views": draws.fingerprint, "view_seed": config.seed, "views_per_clip": config.views, "form": config.form,
        "projection": config.projection, "projection_hash": "", "dim": width or teacher.dim,
        "tokens": max(1, round(config.tokens * grid_tokens)), "token_seed": config.seed,
        "dataset": dataset_hash(config.data.path, source), "clips": len(source.samples),
        "shards": sum(size > 0 for size in source.shard_sizes),
    }  # fmt: skip
    if (config.out / MANIFEST).exists():
        with user_errors(ValueError):
            manifest = LatentManifest.load(config.out)
        wanted = {name: value for name, value in fields.items() if name != "projection_hash"}
        lines = differences(manifest.dependencies, wanted, "these options")
        refuse_differences(config.out, with_named_videos(lines, config.out, source))
    notes = {"teacher_source": config.teacher, "data_path": without_secrets(config.data.path)}
    projection = None if width is None else random_orthonormal(teacher.dim, width, config.seed).to(device)
    job = CacheJob(config.out, LatentManifest(**fields, notes=notes), source, draws, encoder, projection, threads)
    return begin(config, job) if write else _with_projection(job)


def begin(config: CacheConfig, job: CacheJob) -> CacheJob:
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
        Inventory.from_source(job.source).save(folder)
    with user_errors(ValueError):
        found = LatentManifest.load(folder)  # another process may have been first
    refuse_differences(folder, differences(found.dependencies, job.manifest.dependencies, "these options"))
    return job


def _with_projection(job: CacheJob) -> CacheJob:
    """Return the job with the projection from its folder, if it has one."""
    if job.projection is None or not (job.folder / FILE).exists():
        return job
    with user_errors(ValueError):
        projection, found = restore(job.folder)
    notes = {**job.manifest.notes, "projection": projection.kept}
    manifest = replace(job.manifest, projection_hash=found, notes=notes)
    return replace(job, manifest=manifest, projection=projection.to(job.encoder.device))


def reopen_job(folder: Path, teacher: str, data: CacheData) -> CacheJob:
    """Open the source and teacher of an existing cache. All but the places come from its manifest.

    Raises:
        UserError: these are not the teacher and videos it was made from.
        FileNotFoundError: something is not there.
    """
    from fastvid.models.teachers import load_teacher, with_layers

    with user_errors(ValueError):
        manifest = LatentManifest.load(folder)
        spec = manifest.view_spec
        source = data.open()
        patch, tubelet = spec.size // manifest.grid[1], spec.frames // manifest.grid[0]
        whole = load_teacher(teacher, frames=spec.frames, size=spec.size, patch=patch, tubelet=tubelet)
        model = _frozen(with_layers(whole, parse_blocks(manifest.layer)))
    wanted = {"teacher": model.kind, "weights": model.weights, "dataset": dataset_hash(data.path, source)}
    lines = differences(manifest.dependencies, wanted, "these options")
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
    encoder = FrozenEncoder(model, device, manifest.precision, 1)
    return CacheJob(folder, manifest, source, draws, encoder, projection, data.threads or default_threads())


def _frozen(teacher: "Teacher") -> FrozenModule:
    """Return a teacher with what identifies it."""
    found = teacher_fingerprint(teacher)
    layer = name_blocks(teacher.layers)
    return FrozenModule(teacher, found["teacher"], found["weights"], layer, teacher.grid, teacher.dim)


def compute_device() -> torch.device:
    """Return this process's GPU among those of its machine, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = environment_number("LOCAL_RANK", environment_number("SLURM_LOCALID", 0))
    return torch.device("cuda", local % torch.cuda.device_count())


def refuse_differences(folder: Path, lines: list[str]) -> None:
    """Raise UserError with the lines, if there are any."""
    if lines:
        raise UserError(
            f"the latents in {folder} were made for something else:\n  "
            + "\n  ".join(lines)
            + "\nchange the options, or use another folder"
        )


def _make_projection(config: CacheConfig, job: CacheJob) -> Projection:
    """Return the projection of a new cache, measured on clips chosen by the seed."""
    kind, encoder, source, width = config.projection.partition(":")[0], job.encoder, job.source, job.manifest.dim
    clips = config.projection_clips if kind == "pca" else encoder.batch
    ranked = EpochOrder(config.seed, _PROJECTION_DRAW, [len(source.samples)])[:clips]
    one_view = ViewDraws(config.data.views(config.teacher), config.seed, 1)

    def batches():
        pixels = []
        stream = decode_ahead(
            source, sorted(ranked), one_view, group=encoder.batch, threads=job.threads, device=encoder.device
        )
        for clip in stream:
            pixels += [p for p in clip.pixels if p is not None]
            if len(pixels) >= encoder.batch:
                yield encoder(pixels).flatten(0, 1)
                pixels = []
        if pixels:
            yield encoder(pixels).flatten(0, 1)

    if kind == "pca":
        return fit_pca(batches(), width)
    assert job.projection is not None
    projection = job.projection.to(torch.device("cpu"))  # drawn when the job was opened
    for tokens in batches():
        projection.measure(tokens.cpu())
        break
    return projection
