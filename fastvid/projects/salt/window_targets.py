"""Targets from a sliding-window cache: the teacher runs once for several showings of a view."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from fastvid.data import Batch, Latents, Quarantine
from fastvid.files import existing
from fastvid.latents import LatentLoader, LatentManifest, LatentWindow
from fastvid.latents.compute import encode, is_finite
from fastvid.latents.manifest import Form, dataset_hash, latent_bytes
from fastvid.latents.window import bytes_in, window_bytes
from fastvid.models.block_numbers import name_blocks
from fastvid.models.fingerprint import teacher_fingerprint
from fastvid.models.teachers import Teacher
from fastvid.projects.salt.config import SaltConfig
from fastvid.projects.salt.data import SaltData, centre_clips
from fastvid.projects.salt.targets import Examples, MakeLoader, Selected, layers_of, select_latents
from fastvid.units import size

_FOLDER = "latent-window"  # in the run's directory


def check_window(config: SaltConfig, run: Path, data: SaltData, tokens: int, dim: int) -> None:
    """Raise an error where a window exceeds its budget or the disk.

    Args:
        config: configuration of the run.
        run: the run's directory, where the window will be.
        data: data of the run.
        tokens: number of tokens of a clip.
        dim: width of the teacher's latents.

    Raises:
        ValueError: it does not fit; the message has what would.
    """
    options, batch, window = config.latent_window, config.optim.batch, config.data.window
    rows = max(1, len(config.teacher.layers))

    def needed(form: Form, shards: int) -> int:
        return window_bytes(data.train.shard_sizes, shards, latent_bytes(tokens * rows, dim, form), batch)

    most, wanted = options.gb * 1e9, needed(options.form, window)
    if wanted > most:
        ways = [f"--data.window {w}" for w in range(window - 1, 0, -1) if needed(options.form, w) <= most][:1]
        ways += [f"--latent-window.gb {math.ceil(wanted / 1e7) / 100:g}"]
        ways += ["--latent-window.form int8"] * (needed("int8", window) <= most)
        raise ValueError(
            f"the latents of two windows of {window} shards take up to {size(wanted)} as {options.form}, and "
            f"--latent-window.gb allows {options.gb:g}: give {', or '.join(ways)}"
        )
    folder = run / _FOLDER
    free = shutil.disk_usage(existing(folder)).free + bytes_in(folder)
    if wanted > free:
        raise ValueError(f"the latents of two windows take up to {size(wanted)}, and {folder} has {size(free)} free")


def remove_window(run: Path) -> None:
    """Remove a window's files from a run's directory, where nothing needs them once the student is trained."""
    shutil.rmtree(run / _FOLDER, ignore_errors=True)  # another process may be removing it, too


class WindowTargets:
    """A frozen teacher's latents, which the teacher computes where the window does not have them yet.

    Args:
        teacher: on the device.
        run: the run's directory.
        config: configuration of the run.
        data: data of the run.
        precision: the engine's.
        device: of the run.
    """

    def __init__(
        self,
        teacher: Teacher,
        run: Path,
        config: SaltConfig,
        data: SaltData,
        precision: str,
        device: torch.device,
    ):
        self._folder, self._device, self._teacher = run / _FOLDER, device, teacher
        self._compiled = torch.compile(teacher, dynamic=False) if config.run.compile else teacher
        self._window: LatentWindow | None = None
        self._options = config.latent_window
        self.layers = layers_of(teacher)
        fingerprint = teacher_fingerprint(teacher)
        self._manifest = LatentManifest(
            teacher=fingerprint["teacher"], weights=fingerprint["weights"],
            layer=name_blocks(config.teacher.layers), precision=precision, grid=teacher.grid,
            views=data.views.fingerprint, view_seed=config.run.seed, views_per_clip=1,
            form=self._options.form, projection="none", projection_hash="", dim=teacher.dim,
            tokens=math.prod(teacher.grid), token_seed=0,
            dataset=dataset_hash(data.path, data.whole), clips=len(data.train.samples),
            shards=sum(count > 0 for count in data.train.shard_sizes),
        )  # fmt: skip

    @property
    def dim(self) -> int:
        return self._teacher.dim

    def batches(self, make_loader: MakeLoader) -> LatentLoader:
        self._window = LatentWindow(self._folder, self._manifest, int(self._options.gb * 1e9))
        return LatentLoader(make_loader(echo=self._options.echo), self._window, self._device)

    def select(self, prepared: Latents, masked: torch.Tensor) -> Selected:
        return select_latents(prepared, masked, self.layers)

    def examples(self, data: SaltData, clips: int, quarantine: Quarantine) -> Examples:
        pixels, ids = centre_clips(data, clips, quarantine)
        return Examples(pixels, ids, self._compute(self._teacher, pixels.to(self._device)))

    def prepare(self, batch: Batch) -> Latents:
        """Return the latents of a batch. The teacher computes those that are missing, and they are kept."""
        assert self._window is not None, "there are no batches yet"
        if batch.latents is not None:
            return batch.latents
        assert batch.clips is not None
        view_hashes = batch.view_hashes.tolist()
        known, missing = self._window.find(batch.keys, view_hashes)  # again: the batch before may have added some
        if not missing:
            return known.to(self._device)
        latents = self._compute(self._compiled, batch.clips)  # of all clips: one shape, whatever is missing
        there = sorted(set(range(len(batch.keys))) - set(missing))
        if there:
            rows = self._rows(there)
            for part, kept in zip(latents.parts, known.rows(torch.tensor(there)).parts, strict=True):
                part[rows] = kept.to(self._device)
        # A view can be in the batch twice, where one time through the window ends and the next begins.
        slots = {(batch.keys[slot], view_hashes[slot]): slot for slot in reversed(missing)}
        new = sorted(slots.values())
        keys, hashes = [batch.keys[slot] for slot in new], [view_hashes[slot] for slot in new]
        added = latents if len(new) == len(batch.keys) else latents.rows(self._rows(new))
        self._window.add(batch.windows[1], keys, hashes, added, self._check)
        return latents

    def _rows(self, slots: list[int]) -> torch.Tensor:
        """Copy rows to the device without waiting for it."""
        index = torch.tensor(slots)
        return index.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else index

    @torch.no_grad()
    def _compute(self, teacher: Callable[[torch.Tensor], torch.Tensor], clips: torch.Tensor) -> Latents:
        return encode(teacher(clips), self._options.form)

    def _check(self, latents: Latents) -> None:
        if not is_finite(latents):
            raise ValueError(
                f"the teacher's latents are not finite numbers, or larger than {self._options.form} holds: try "
                "--latent-window.form bf16"
            )
