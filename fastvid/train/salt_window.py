"""A SALT student that is taught by a sliding-window cache: the teacher runs once for several showings of a view."""

import logging
import math
import shutil
from pathlib import Path
from typing import Any

import torch

from fastvid.cache.compute import in_form, in_range
from fastvid.cache.plan import existing, size
from fastvid.data import (
    Batch,
    LatentManifest,
    Latents,
    LatentWindow,
    Quarantine,
    TrainLoader,
    WindowBatch,
    WindowLoader,
)
from fastvid.data.latent_manifest import dataset_hash, view_facts
from fastvid.data.latent_window import window_bytes
from fastvid.models.identity import teacher_identity
from fastvid.models.teachers import Teacher
from fastvid.train.salt_config import SaltConfig
from fastvid.train.salt_data import SaltData, centre_clips
from fastvid.train.salt_health import HealthBatch

log = logging.getLogger(__name__)

FOLDER = "latent-window"  # in the run's directory


def check_window(config: SaltConfig, folder: Path, data: SaltData, tokens: int, dim: int) -> None:
    """Refuses a window that its budget or the disk cannot hold.

    Args:
        config: of the run.
        folder: where the window will be.
        data: of the run.
        tokens: of a clip.
        dim: width of the teacher's latents.

    Raises:
        ValueError: it does not fit; the message has what would.
    """
    options, batch, window = config.latent_window, config.optim.batch, config.data.window

    def needed(form: str, shards: int) -> int:
        view_bytes = tokens * (dim + 2 if form == "int8" else 2 * dim)
        return window_bytes(data.train.shard_sizes, shards, view_bytes, batch)

    most, wanted = options.gb * 1e9, needed(options.form, window)
    if wanted > most:
        ways = [f"--data.window {w}" for w in range(window - 1, 0, -1) if needed(options.form, w) <= most][:1]
        ways += [f"--latent-window.gb {math.ceil(wanted / 1e7) / 100:g}"]
        ways += ["--latent-window.form int8"] * (needed("int8", window) <= most)
        raise ValueError(
            f"the latents of two windows of {window} shards take up to {size(wanted)} as {options.form}, and "
            f"--latent-window.gb allows {options.gb:g}: give {', or '.join(ways)}"
        )
    free = shutil.disk_usage(existing(folder)).free + sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    if wanted > free:
        raise ValueError(f"the latents of two windows take up to {size(wanted)}, and {folder} has {size(free)} free")


class WindowTeacher:
    """A teacher that is asked where the window has no latents, and what it says is kept there.

    Args:
        teacher: on the device.
        folder: of the window.
        config: of the run.
        data: of the run.
        precision: of autocast, as the run's engine has it; None for float32.
        device: of the run.
        quarantine: of the run.
    """

    def __init__(
        self,
        teacher: Teacher,
        folder: Path,
        config: SaltConfig,
        data: SaltData,
        precision: torch.dtype | None,
        device: torch.device,
        quarantine: Quarantine,
    ):
        self._folder, self._config, self._data, self._device = folder, config, data, device
        self._quarantine = quarantine
        self._teacher = torch.compile(teacher, dynamic=False) if config.run.compile else teacher
        self._window: LatentWindow | None = None
        self._options = config.latent_window
        self.manifest = LatentManifest(
            **teacher_identity(teacher), layer="last",
            precision="float32" if precision is None else str(precision).removeprefix("torch."),
            grid=teacher.grid, views=view_facts(data.views), view_seed=config.run.seed, views_per_clip=1,
            form=self._options.form, projection="none", projection_hash="", dim=teacher.dim,
            tokens=math.prod(teacher.grid), token_seed=0, dataset=dataset_hash(data.path, data.whole),
            clips=len(data.train.samples), shards=sum(count > 0 for count in data.train.shard_sizes),
        )  # fmt: skip

    @property
    def loader_options(self) -> dict[str, Any]:
        """What :class:`TrainLoader` has to be given."""
        return {"echo": self._options.echo}

    def batches(self, loader: TrainLoader) -> WindowLoader:
        """The loader's batches with the latents that are known."""
        self._window = LatentWindow(self._folder, self.manifest, int(self._options.gb * 1e9))
        return WindowLoader(loader, self._window, self._device)

    def health_batch(self, clips: int) -> HealthBatch:
        """Centre views of the first training clips, their ids and latents."""
        pixels, ids = centre_clips(self._data, clips, self._quarantine)
        return pixels, ids, self._taught(pixels.to(self._device))

    def remove(self) -> None:
        """Removes what is kept; nothing needs it once the student is trained."""
        shutil.rmtree(self._folder, ignore_errors=True)  # another process may be writing its last

    def of(self, batch: Batch) -> Latents:
        """The latents of a batch; those that are missing are asked for, and kept."""
        assert self._window is not None, "there are no batches yet"
        assert isinstance(batch, WindowBatch), "this is not a batch of the window's loader"
        if not batch.missing:
            return batch.latents
        known, missing = self._window.read(batch.keys, batch.hashes)  # again: the batch before may have added some
        if not missing:
            return known.to(self._device)
        latents = self._taught(batch.clips)  # of all clips: one shape, whatever is missing
        there = [slot for slot in range(len(batch.keys)) if slot not in missing]
        if there:
            rows = torch.tensor(there)
            for part, kept in zip(latents.parts, known.rows(rows).parts, strict=True):
                part[rows.to(self._device)] = kept.to(self._device)
        # A view can be in the batch twice, where one time through the window ends and the next begins.
        places = {(batch.keys[slot], batch.hashes[slot]): slot for slot in reversed(missing)}
        new = latents.rows(torch.tensor(list(places.values()), device=self._device))
        keys, hashes = zip(*places, strict=True)
        self._window.add(batch.window, keys, hashes, new, self._check)
        return latents

    @torch.no_grad()
    def _taught(self, clips: torch.Tensor) -> Latents:
        return in_form(self._teacher(clips), self._options.form)

    def _check(self, latents: Latents) -> None:
        if not in_range(latents):
            raise ValueError(
                f"the teacher's latents are not finite numbers, or larger than {self._options.form} holds: try "
                "--latent-window.form bf16"
            )
