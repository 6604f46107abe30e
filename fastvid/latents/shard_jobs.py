"""The work itself: one shard after the other, each finished or not begun."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fastvid.command import UserError, user_errors
from fastvid.files import write_whole
from fastvid.latents import Latents
from fastvid.latents.compute import ClipViews, decoded_groups, quantize
from fastvid.latents.disk_store import bad_list, read_bad
from fastvid.latents.file import NO_VIEW, LatentFile
from fastvid.latents.job import Job, Shard
from fastvid.latents.writer import LatentFileWriter

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


def latent_path(job: Job, shard: Shard) -> Path:
    """Return where the latents of a shard are, or will be."""
    return job.folder / f"{shard.name}.safetensors"


def todo(job: Job, shards: Sequence[Shard], *, retry_bad: bool) -> list[Shard]:
    """Return the shards that are not finished, and with ``retry_bad`` those that have bad clips."""
    paths = [(shard, latent_path(job, shard)) for shard in shards]
    return [shard for shard, path in paths if not path.exists() or (retry_bad and bad_list(path).exists())]


def share(shards: Sequence[Shard], rank: int, world: int) -> list[Shard]:
    """Return every ``world``-th shard from ``rank`` on. Finished shards count too, so that processes which begin at
    different times share them in the same way.
    """
    return list(shards[rank::world])


def place_of_this_process() -> tuple[int, int]:
    """Return (rank, world) from torchrun, or else from a SLURM array or step, or (0, 1) without either.

    Raises:
        UserError: these variables are not numbers, or name no job.
    """
    for rank, world in (
        ("RANK", "WORLD_SIZE"),
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # SLURM_NTASKS is set in a batch script, too, which runs once
    ):
        if rank in os.environ and world in os.environ:
            counted = "ARRAY" in rank and "SLURM_ARRAY_TASK_MIN" in os.environ
            first = _whole_number("SLURM_ARRAY_TASK_MIN") if counted else 0
            place = _whole_number(rank) - first, _whole_number(world)
            if not 0 <= place[0] < place[1]:
                raise UserError(
                    f"this process has rank {place[0]} of {place[1]}: the environment describes no place for it"
                )
            return place
    return 0, 1


def _whole_number(name: str) -> int:
    value = os.environ[name]
    if not value.isdecimal():
        raise UserError(f"the environment variable {name} is {value!r}: it is a whole number that the launcher sets")
    return int(value)


def make_shard(job: Job, shard: Shard, progress: Progress = lambda clips: None) -> Done:
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


def _clips(job: Job, rows: range, before: LatentFile | None) -> Iterator[Row]:
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
        latents = Latents.empty(job.manifest, job.manifest.views_per_clip)
        with user_errors(ValueError):
            for view in range(job.manifest.views_per_clip):
                before.read(index, places[key], view, latents, view)
        yield key, index.view_hashes[places[key]].tolist(), latents, []


def computed(job: Job, rows: Sequence[int]) -> Iterator[Row]:
    """Yield the key, view hashes, latents (None where no view could be decoded) and bad views of these samples,
    computed now."""
    per_batch = max(1, job.maker.batch // job.draws.count)
    groups = decoded_groups(job.source, rows, job.draws, threads=job.threads, group=per_batch, device=job.maker.device)
    for group in groups:
        yield from taught(job, group)


def taught(job: Job, group: list[ClipViews]) -> Iterator[Row]:
    """Run the teacher on some clips' views: key, hashes, latents and bad views of each."""
    pixels = [p for clip in group for p in clip.pixels if p is not None]
    latents = job.maker.project(job.maker.teach(pixels), job.projection) if pixels else torch.empty(0)
    first = 0
    for clip in group:
        good = sum(h != NO_VIEW for h in clip.hashes)
        records = [
            {"key": clip.key, "view": view, "reason": error.reason, "detail": error.detail}
            for view, error in clip.errors.items()
        ]
        made = quantize(job.manifest, clip, latents[first : first + good]) if good else None
        first += good
        yield clip.key, clip.hashes, made, records


def _write_bad(path: Path, records: list[dict]) -> None:
    if not records:
        path.unlink(missing_ok=True)
        return
    write_whole(path, "".join(json.dumps(record) + "\n" for record in records).encode())


def count_bad(job: Job) -> int:
    """Return the number of views of all finished shards that have no latents."""
    return sum(len(read_bad(bad_list(latent_path(job, shard)))) for shard in job.shards())
