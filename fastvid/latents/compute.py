"""From videos to latents: decode the views, run the teacher, project, choose tokens, narrow."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import nn

from fastvid.command import UserError
from fastvid.data import Sample, Source
from fastvid.data.source import read_video
from fastvid.latents import LatentManifest, Latents
from fastvid.latents.file import NO_VIEW
from fastvid.latents.manifest import Form
from fastvid.latents.projection import Projection
from fastvid.ops import MaskSpec, gather_tokens, multiblock_mask, quantize_tokens, sample_id
from fastvid.video import DecodeError, Limits, VideoMetadata, View, ViewSpec, decode_clips


@dataclass
class ClipViews:
    """All views of one clip.

    Attributes:
        key: key of the sample.
        hashes: of its V views, -1 where a view could not be decoded.
        pixels: uint8 [T, H, W, 3] of each view, None where it could not be decoded.
        errors: why, by view.
    """

    key: str
    hashes: list[int]
    pixels: list[np.ndarray | None]
    errors: dict[int, DecodeError]


@dataclass(frozen=True)
class ViewDraws:
    """Which views of a clip are stored.

    Attributes:
        spec: how views are drawn.
        seed: with which seed.
        count: V; draws 0 to V - 1.
    """

    spec: ViewSpec
    seed: int
    count: int

    def mark(self, sample: Sample) -> str:
        """Return the parameters, beside key and video, that a sample's views depend on. The default is none."""
        return ""

    def views(self, sample: Sample, info: VideoMetadata) -> list[View]:
        """Return the views of a sample."""
        return [self.spec.draw(sample.key, self.seed, draw, info) for draw in range(self.count)]

    def change(self, pixels: np.ndarray, sample: Sample, draw: int) -> np.ndarray:
        """Augment the uint8 [T, H, W, 3] pixels of a view. The default returns them unchanged."""
        return pixels


class Draws(Protocol):
    """Which V views of a clip are decoded, and what is done with their pixels; see :class:`ViewDraws`."""

    @property
    def count(self) -> int: ...

    def mark(self, sample: Sample) -> str: ...

    def views(self, sample: Sample, info: VideoMetadata) -> list[View]: ...

    def change(self, pixels: np.ndarray, sample: Sample, draw: int) -> np.ndarray: ...


def decode_views(draws: Draws, source: Source, index: int) -> ClipViews:
    """Decode the views of a sample."""
    sample, count = source.samples[index], draws.count
    clip = ClipViews(sample.key, [NO_VIEW] * count, [None] * count, {})
    try:
        data, info = read_video(source, index, Limits())
    except DecodeError as error:
        clip.errors = dict.fromkeys(range(count), error)
        return clip
    views = draws.views(sample, info)
    for draw, pixels in enumerate(_each_view(data, views, info)):
        if isinstance(pixels, DecodeError):
            clip.errors[draw] = pixels
        else:
            clip.pixels[draw], clip.hashes[draw] = draws.change(pixels, sample, draw), views[draw].hash
    return clip


def _each_view(data: bytes, views: list[View], info: VideoMetadata) -> list[np.ndarray | DecodeError]:
    """Yield the pixels of each view, or the error where it cannot be decoded: a damaged file may have good parts."""
    try:
        return list(decode_clips(data, views, info=info))
    except DecodeError as error:
        if len(views) == 1:
            return [error]
    return [_each_view(data, [view], info)[0] for view in views]


def decoded(source: Source, indices: Sequence[int], draws: Draws, *, threads: int, ahead: int) -> Iterator:
    """Yield :class:`ClipViews` of samples, in order, at most ``ahead`` of them decoded before they are asked for."""
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        waiting: deque[Future[ClipViews]] = deque()
        todo = iter(indices)
        try:
            while True:
                while len(waiting) < ahead and (index := next(todo, None)) is not None:
                    waiting.append(pool.submit(decode_views, draws, source, index))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def decoded_groups(
    source: Source, indices: Sequence[int], draws: Draws, *, threads: int, group: int, device: torch.device
) -> Iterator[list[ClipViews]]:
    """Yield :class:`ClipViews` of samples, in order, in lists of ``group`` for forward passes on a device.

    A group is decoded while the forward pass of the one before it runs; but not where that takes several processor
    threads itself: these wait for each other at every operation, actively, and with a decoding thread on the core of
    one of them the pass takes three times as long. There, decoding and forward pass have all cores in turns.
    """
    if device.type == "cpu" and torch.get_num_threads() > 1:
        for first in range(0, len(indices), group):
            rows = indices[first : first + group]
            yield list(decoded(source, rows, draws, threads=threads, ahead=len(rows)))
        return
    stream = decoded(source, indices, draws, threads=threads, ahead=2 * group)
    while clips := list(islice(stream, group)):
        yield clips


class LatentMaker:
    """A teacher and what is done with its latents.

    Args:
        teacher: frozen, uint8 [B, T, H, W, 3] -> [B, N, D]; moved to ``device``.
        device: where it runs.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast).
        batch: most clips in one forward pass.
    """

    def __init__(self, teacher: nn.Module, device: torch.device, precision: str, batch: int):
        self.teacher, self.device, self.batch = teacher.to(device), device, batch
        self.autocast = torch.bfloat16 if precision == "bfloat16" else None

    @torch.no_grad()
    def teach(self, pixels: Sequence[np.ndarray]) -> torch.Tensor:
        """Map views uint8 [T, H, W, 3] to the teacher's latents, float32 [B, N, D] on the device."""
        parts = []
        for first in range(0, len(pixels), self.batch):
            clips = torch.from_numpy(np.stack(pixels[first : first + self.batch])).to(self.device)
            cast = nullcontext() if self.autocast is None else torch.autocast(self.device.type, dtype=self.autocast)
            with cast:
                parts.append(self.teacher(clips).float())
        return torch.cat(parts)

    def project(self, latents: torch.Tensor, projection: Projection | None) -> torch.Tensor:
        """Map float32 [B, N, D] to [B, N, D']."""
        return latents if projection is None else projection(latents)


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


def quantize(manifest: LatentManifest, clip: ClipViews, latents: torch.Tensor) -> Latents:
    """Convert a clip's latents to the cache's form.

    Args:
        manifest: of the cache.
        clip: whose they are.
        latents: float32 [good views, N, D'], projected, of those of the clip's views that were decoded.

    Returns:
        V rows, zero where there is no view.

    Raises:
        UserError: they are not finite, or not in the range of float16.
    """
    good = torch.tensor([h != NO_VIEW for h in clip.hashes])
    out = Latents.empty(manifest, manifest.views_per_clip)
    for part in out.parts:
        part.zero_()
    if manifest.is_subset:
        out.tokens = chosen_tokens(manifest, clip.key)
        latents = gather_tokens(latents, out.tokens[good].to(latents.device))
    latents = latents.cpu()
    if not latents.isfinite().all():
        raise UserError(f"the teacher's latents of {clip.key} are not finite numbers: nothing can be predicted there")
    stored = encode(latents, manifest.form)
    if not is_finite(stored):
        raise UserError(
            f"the latents of {clip.key} reach {float(latents.abs().max()):g}, more than {manifest.form} holds: use "
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
