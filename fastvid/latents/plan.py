"""The cost of a cache before anything is computed: disk, time, and what else could be done."""

import dataclasses
import shutil
import time
from itertools import islice

from fastvid.data.loader.decode_ahead import decode_ahead
from fastvid.files import existing
from fastvid.latents.job import CacheJob, Shard
from fastvid.latents.manifest import LatentManifest
from fastvid.latents.shards import encoded
from fastvid.latents.window import window_bytes
from fastvid.units import duration, size

_SPARE = 64 << 20  # bytes of a file system that are better left free


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cost of the shards that are not finished.

    Attributes:
        clips: in them.
        total: bytes of the whole cache.
        missing: bytes of these clips.
        free: bytes on the disk.
        seconds_per_clip: measured, all views, decoding included; None where nothing is to be done.
        processes: that share the work.
        alternatives: (what, bytes of a whole cache of that form).
    """

    clips: int
    total: int
    missing: int
    free: int
    seconds_per_clip: float | None
    processes: int
    alternatives: list[tuple[str, int]]

    @property
    def fits(self) -> bool:
        """Return whether there is room for it."""
        return self.missing + _SPARE <= self.free

    def lines(self, manifest: LatentManifest) -> list[str]:
        """Describe the plan in words."""
        m, clip = manifest, manifest.view_bytes * manifest.views_per_clip
        parts = [m.form, f"{m.tokens} of {m.grid_tokens} tokens" if m.is_subset else f"{m.tokens} tokens"]
        parts += [f"of {m.layers} blocks"] if m.layers > 1 else []
        parts += [f"{m.dim} wide" + (f" ({m.projection})" if m.projection != "none" else "")]
        parts += [f"{m.views_per_clip} view" + "s" * (m.views_per_clip > 1)]
        out = [
            f"{m.clips:,} clips x {size(clip)} ({', '.join(parts)}) = {size(self.total)}; "
            f"{size(self.missing)} of it to be made, {size(self.free)} free on the disk"
        ]
        if self.seconds_per_clip is not None:
            speed = f"{1 / self.seconds_per_clip:.1f} clips/s"
            each = " each" if self.processes > 1 else ""
            whole = duration(self.clips * self.seconds_per_clip / self.processes)
            out.append(f"about {whole} with {self.processes} process{'es' * bool(each)} at {speed}{each}, measured now")
        out.append("what else there is:")
        out += [f"  {what:<76s}{size(total):>10s}" for what, total in self.alternatives]
        return out


def make_plan(job: CacheJob, shards: list[Shard], processes: int) -> Plan:
    """Plan the unfinished ``shards``, and run a batch or two to see how long they take."""
    m, clips = job.manifest, sum(len(shard.rows) for shard in shards)
    clip = m.view_bytes * m.views_per_clip
    return Plan(
        clips=clips,
        total=m.clips * clip,
        missing=clips * clip,
        free=shutil.disk_usage(existing(job.folder)).free,
        seconds_per_clip=_measure(job, shards) if shards else None,
        processes=processes,
        alternatives=_alternatives(job),
    )


def _measure(job: CacheJob, shards: list[Shard]) -> float:
    """Measure the seconds per clip of the second batch of the first shard, or of the first where there is no second."""
    rows, device = shards[0].rows[: 2 * job.group], job.encoder.device
    stream = decode_ahead(job.source, rows, job.draws, group=job.group, threads=job.threads, device=device)
    seconds = 0.0
    while True:
        started = time.perf_counter()
        group = list(islice(stream, job.group))
        if not group:
            return seconds
        list(encoded(job, group))
        if len(group) == job.group or not seconds:
            seconds = (time.perf_counter() - started) / len(group)


def _alternatives(job: CacheJob) -> list[tuple[str, int]]:
    m = job.manifest

    def total(**changes) -> int:
        other = dataclasses.replace(m, **changes)
        return other.clips * other.views_per_clip * other.view_bytes

    narrow = max(1, min(384, m.dim // 2))
    quarter = max(1, m.grid_tokens // 4)
    projected = (
        []
        if m.layers > 1
        else [
            (f"--projection pca:{narrow}", total(dim=narrow)),
            (f"--form int8 --projection pca:{narrow}", total(form="int8", dim=narrow)),
            (f"--form int8 --projection pca:{narrow} --tokens 0.25", total(form="int8", dim=narrow, tokens=quarter)),
        ]
    )
    choices = [
        ("the frozen teacher online: train without --latents", 0),
        ("--form int8", total(form="int8")),
        ("--tokens 0.25", total(tokens=quarter)),
        *projected,
    ]
    if m.projection == "none":
        view = dataclasses.replace(m, tokens=m.grid_tokens).view_bytes
        slides = window_bytes(job.source.shard_sizes, 1, view, job.encoder.batch)
        choices.append((f"train with --latent-window.echo 3 --latent-window.form {m.form} --data.window 1", slides))
    now = total()
    return [(what, taken) for what, taken in choices if taken < now]
