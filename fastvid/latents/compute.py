"""Latents of a clip's views: a frozen module, a choice of tokens, a stored form."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from fastvid.command import UserError
from fastvid.data import Sample, ViewDraws
from fastvid.data.loader.batch import Latents
from fastvid.data.loader.decode_ahead import NO_VIEW, SampleViews
from fastvid.latents.file import empty_latents
from fastvid.latents.manifest import Form, LatentManifest
from fastvid.nn.augment import Augment
from fastvid.ops import MaskSpec, gather_tokens, multiblock_mask, quantize_tokens, sample_id
from fastvid.train.precision import autocast, autocast_dtype


@dataclass(frozen=True)
class TrainingDraws(ViewDraws):
    """Random views whose pixels are augmented too, as :class:`fastvid.data.loader.views.Draws` that can be stored.

    Attributes:
        augment: what is done with the pixels of a view.
    """

    augment: Augment = field(default_factory=Augment)

    @property
    def fingerprint(self) -> dict[str, Any]:
        return self.spec.fingerprint | {"unflipped": sorted(self.no_flip), "augment": asdict(self.augment)}

    def transform(self, pixels: np.ndarray, sample: Sample, draw: int) -> np.ndarray:
        if self.augment.does_nothing:
            return pixels
        ids = torch.tensor([sample_id(sample.key)])
        return self.augment(torch.from_numpy(np.ascontiguousarray(pixels))[None], ids, draw)[0].numpy()


@dataclass(frozen=True)
class FrozenModule:
    """A module that does not change, and what identifies it.

    Attributes:
        module: uint8 [B, T, H, W, 3] -> [B, N, D], N tokens in a ``grid`` and D = ``dim``; or [B, N * layers, D] of
            several layers, those of a token next to each other.
        kind: of the model, with a hash of its configuration.
        weights: sha256 of the weights that features depend on.
        layer: whose output the features are.
        grid: (T, H, W).
        dim: width of a token.
    """

    module: nn.Module
    kind: str
    weights: str
    layer: str
    grid: tuple[int, int, int]
    dim: int


class FrozenEncoder:
    """A frozen module on a device.

    Args:
        frozen: the module; it is moved to ``device``.
        device: where it runs.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast).
        batch: most clips in one forward pass.
    """

    def __init__(self, frozen: FrozenModule, device: torch.device, precision: str, batch: int):
        self.frozen, self.module = frozen, frozen.module.to(device)
        self.device, self.precision, self.batch = device, precision, batch
        self._autocast = autocast_dtype(precision, device)

    @torch.no_grad()
    def __call__(self, pixels: Sequence[np.ndarray]) -> torch.Tensor:
        """Map views uint8 [T, H, W, 3] to latents, float32 [B, N, D] on the device."""
        parts = []
        for first in range(0, len(pixels), self.batch):
            clips = torch.from_numpy(np.stack(pixels[first : first + self.batch])).to(self.device)
            with autocast(self.device, self._autocast):
                parts.append(self.module(clips).float())
        return torch.cat(parts)


def chosen_tokens(manifest: LatentManifest, key: str) -> torch.Tensor:
    """Choose the tokens of each view that are stored, int64 [V, K]: a pure function of key, view and seed."""
    ids, line = torch.tensor([sample_id(key)]), (1, 1, manifest.grid_tokens)
    seed = sample_id(f"tokens of a latent cache, seed {manifest.token_seed}")
    return torch.cat(
        [
            multiblock_mask(ids, line, masked=manifest.tokens, visible=0, spec=MaskSpec.random(), seed=seed, draw=v)[1]
            for v in range(manifest.views_per_clip)
        ]
    )


def rows_of_tokens(latents: torch.Tensor, tokens: torch.Tensor, layers: int) -> torch.Tensor:
    """Return the latents of some tokens, int64 [B, K], of latents [B, N * layers, D]: [B, K * layers, D]."""
    whole = latents.unflatten(1, (-1, layers)).flatten(2)
    return gather_tokens(whole, tokens.to(latents.device)).unflatten(2, (layers, -1)).flatten(1, 2)


def quantize(manifest: LatentManifest, clip: SampleViews, latents: torch.Tensor) -> Latents:
    """Convert a clip's latents to the cache's form.

    Args:
        manifest: of the cache.
        clip: whose they are.
        latents: float32 [good views, N * layers, D'], projected, of those of the clip's views that were decoded.

    Returns:
        V rows, zero where there is no view.

    Raises:
        UserError: they are not finite, or not in the range of float16.
    """
    key = clip.sample.key
    good = torch.tensor([h != NO_VIEW for h in clip.hashes])
    out = empty_latents(manifest, manifest.views_per_clip)
    for part in out.parts:
        part.zero_()
    if manifest.is_subset:
        out.tokens = chosen_tokens(manifest, key)
        latents = rows_of_tokens(latents, out.tokens[good], manifest.layers)
    latents = latents.cpu()
    if not latents.isfinite().all():
        raise UserError(f"the teacher's latents of {key} are not finite numbers: nothing can be predicted there")
    stored = encode(latents, manifest.form)
    if not is_finite(stored):
        raise UserError(
            f"the latents of {key} reach {float(latents.abs().max()):g}, more than {manifest.form} holds: use "
            "--form bf16"
        )
    out.values[good] = stored.values
    if out.scale is not None and stored.scale is not None:
        out.scale[good] = stored.scale
    return out


def encode(latents: torch.Tensor, form: Form) -> Latents:
    """Convert floating-point [B, N, D] to the stored form, on the same device."""
    if form == "int8":
        return Latents(*quantize_tokens(latents))
    return Latents(latents.to(torch.float16 if form == "fp16" else torch.bfloat16))


def is_finite(latents: Latents) -> bool:
    """Return whether the form could hold the latents: elements, or scales, are finite."""
    return bool((latents.values if latents.scale is None else latents.scale).isfinite().all())
