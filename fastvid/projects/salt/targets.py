"""Targets of a stage: pixels, or a teacher's latents, which it computes at every step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from fastvid.data import Batch, Latents, Quarantine, TrainLoader
from fastvid.models.teachers import Teacher
from fastvid.nn import VisiblePatchEmbed
from fastvid.ops import gather_tubelets
from fastvid.projects.salt.data import SaltData, centre_clips
from fastvid.train.loader import Loader

# Targets of a mask: target [B, K, D], index int64 [B, M] into it, and scale float16 [B, K] where the target is int8.
Selected = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]

# Makes the loader of a stage, with the options ``draws`` and ``echo`` of TrainingClips.loader.
MakeLoader = Callable[..., TrainLoader]


@dataclass(frozen=True)
class Examples:
    """Training clips that a stage's health is measured on.

    Attributes:
        clips: uint8 [B, T, H, W, 3].
        ids: int64 [B], of the samples.
        targets: what :meth:`Targets.prepare` returns for these clips: a tensor or :class:`Latents`.
    """

    clips: torch.Tensor
    ids: torch.Tensor
    targets: Any

    def to(self, device: torch.device) -> "Examples":
        """Move the examples to a device."""
        return Examples(self.clips.to(device), self.ids.to(device), self.targets.to(device))


class Targets(Protocol):
    """The targets of a stage. Four classes implement this: :class:`PixelTargets`, :class:`TeacherTargets`,
    :class:`fastvid.projects.salt.cached_targets.CachedTargets` and
    :class:`fastvid.projects.salt.window_targets.WindowTargets`.
    """

    @property
    def dim(self) -> int:
        """Return the width of a target."""
        ...

    @property
    def layers(self) -> int:
        """Return the number of targets of a token: one for each of the teacher's blocks that teach."""
        ...

    def batches(self, make_loader: MakeLoader) -> Loader:
        """Return the training batches, with what :meth:`prepare` reads from them."""
        ...

    def prepare(self, batch: Batch) -> Any:
        """Prepare what all masks of a step share: :class:`Latents`, or the clips where pixels are predicted."""
        ...

    def select(self, prepared: Any, masked: torch.Tensor) -> Selected:
        """Return the targets of the tokens ``masked`` int64 [B, M]; those of a token's layers follow each other."""
        ...

    def examples(self, data: SaltData, clips: int, quarantine: Quarantine) -> Examples:
        """Return the first training clips that decode, with their targets."""
        ...


class PixelTargets:
    """Normalised pixels of the masked tubelets, as the encoder's own embedding normalises them."""

    def __init__(self, embed: VisiblePatchEmbed):
        self.embed = embed

    layers = 1

    @property
    def dim(self) -> int:
        return 3 * self.embed.tubelet * self.embed.patch**2

    def batches(self, make_loader: MakeLoader) -> Loader:
        return make_loader()

    def prepare(self, batch: Batch) -> torch.Tensor:
        assert batch.clips is not None
        return batch.clips

    def select(self, prepared: torch.Tensor, masked: torch.Tensor) -> Selected:
        e = self.embed
        pixels = gather_tubelets(prepared, masked, tubelet=e.tubelet, patch=e.patch, mean=e.mean, std=e.std)
        return pixels, torch.arange(masked.shape[1], device=masked.device).expand_as(masked), None

    def examples(self, data: SaltData, clips: int, quarantine: Quarantine) -> Examples:
        pixels, ids = centre_clips(data, clips, quarantine)
        return Examples(pixels, ids, pixels)


class TeacherTargets:
    """A frozen teacher's latents of the whole clip, computed at every step.

    Args:
        teacher: on the device.
        device: where the teacher is.
        compile: torch.compile the teacher for the shapes of training.
    """

    def __init__(self, teacher: Teacher, device: torch.device, *, compile: bool = False):
        self.teacher, self._device = teacher, device
        self._compiled = torch.compile(teacher, dynamic=False) if compile else teacher
        self.layers = layers_of(teacher)

    @property
    def dim(self) -> int:
        return self.teacher.dim

    def batches(self, make_loader: MakeLoader) -> Loader:
        return make_loader()

    def prepare(self, batch: Batch) -> Latents:
        return Latents(self._compiled(batch.clips))

    def select(self, prepared: Latents, masked: torch.Tensor) -> Selected:
        return select_latents(prepared, masked, self.layers)

    def examples(self, data: SaltData, clips: int, quarantine: Quarantine) -> Examples:
        pixels, ids = centre_clips(data, clips, quarantine)
        return Examples(pixels, ids, Latents(self.teacher(pixels.to(self._device))))


def select_latents(latents: Latents, masked: torch.Tensor, layers: int) -> Selected:
    """Return the latents of the tokens ``masked`` int64 [B, M], ``layers`` of each. The loss multiplies int8 ones by
    their scale. A token that was not cached has another one's, and must not count in the loss.
    """
    index = masked
    if latents.tokens is not None:
        index = torch.searchsorted(latents.tokens, masked).clamp(max=latents.tokens.shape[1] - 1)
    if layers > 1:
        index = (index.unsqueeze(-1) * layers + torch.arange(layers, device=index.device)).flatten(1)
    return latents.values, index, latents.scale


def layers_of(teacher: Teacher) -> int:
    """Return the number of latents that a teacher has for each token."""
    return max(1, len(teacher.layers))
