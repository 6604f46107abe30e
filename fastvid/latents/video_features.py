"""Features of videos: what an encoder makes of the evaluation views of each, one row a video."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol, get_args

import torch
from torch import nn

from fastvid.command import UserError
from fastvid.data import EvaluationDraws, Sample, Source, open_parts
from fastvid.data.loader.decode_ahead import decode_ahead
from fastvid.data.sources.folder import FolderSource
from fastvid.latents.compute import FrozenEncoder, FrozenModule
from fastvid.names import spelled
from fastvid.random import sample_id
from fastvid.train.precision import autocast_dtype, precision_name
from fastvid.video import DecodeError, ViewSpec

Pool = Literal["mean", "time", "tokens"]
"""Mean of all tokens; of those of each time slot; or all tokens."""


class VideoEncoder(Protocol):
    """A module that maps clips to tokens, and knows which clips it was trained on."""

    views: ViewSpec
    grid: tuple[int, int, int]
    dim: int

    @property
    def fingerprint(self) -> dict[str, str]:
        """Return ``teacher`` and ``weights``, as :func:`fastvid.models.fingerprint.teacher_fingerprint` does."""
        ...

    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        """Map clips uint8 [B, T, H, W, 3] to tokens [B, N, dim], in order of time, row, column."""
        ...


def frozen_encoder(model: VideoEncoder, *, device: torch.device, batch: int, precision: str = "auto") -> FrozenEncoder:
    """Return a model on a device, as what computes features.

    Args:
        model: a module; it is moved to the device.
        device: where it runs.
        batch: most clips in one forward pass.
        precision: ``"float32"``, ``"bfloat16"`` or ``"auto"``, which is bfloat16 where the device computes in it.
    """
    assert isinstance(model, nn.Module)
    found = model.fingerprint
    frozen = FrozenModule(model, found["teacher"], found["weights"], "last", model.grid, model.dim)
    return FrozenEncoder(frozen, device, precision_name(autocast_dtype(precision, device)), batch)


@dataclass
class VideoFeatures:
    """Features of n videos.

    Attributes:
        keys: keys of the samples; of files that were listed, their paths as given.
        values: float [n, dim] with the pool ``mean``, [n, T, dim] with ``time`` for T time slots, [n, N, dim] with
            ``tokens``; with K clips of each video, K is the second dimension.
        labels: classes, None where there is none.
        bad: reason, by key, for each video that could not be used; it has no row.
    """

    keys: list[str]
    values: torch.Tensor
    labels: list[str | None]
    bad: dict[str, str]

    @property
    def ids(self) -> torch.Tensor:
        """Return :func:`fastvid.random.sample_id` of each key, int64 [n]."""
        return torch.tensor([sample_id(key) for key in self.keys], dtype=torch.int64)


def pool_tokens(tokens: torch.Tensor, grid: tuple[int, int, int], pool: Pool) -> torch.Tensor:
    """Map tokens [B, N, dim] to [B, dim] for ``mean``, [B, T, dim] for ``time``, or themselves for ``tokens``.

    Raises:
        ValueError: there is no such pool.
    """
    if pool not in get_args(Pool):
        raise ValueError(f"no pool {pool!r}: use {', '.join(get_args(Pool))}")
    if pool == "tokens":
        return tokens
    return tokens.mean(1) if pool == "mean" else tokens.unflatten(1, (grid[0], -1)).mean(2)


def stream_features(
    encoder: FrozenEncoder,
    source: Source,
    rows: Sequence[int],
    draws: EvaluationDraws,
    *,
    pool: Pool,
    threads: int,
) -> Iterator[tuple[Sample, torch.Tensor | DecodeError]]:
    """Yield the features of videos, in order; or, for one that cannot be used, the error.

    Args:
        encoder: on its device; ``encoder.batch`` clips are one forward pass.
        source: the videos. Of a still image a clip shows nothing else.
        rows: which of them.
        draws: their views.
        pool: what is kept of a clip's tokens.
        threads: decoding threads, which work ahead; see :func:`fastvid.data.loader.decode_ahead.decode_ahead`.

    Raises:
        UserError: features are not finite numbers.
    """
    group = max(1, encoder.batch // draws.count)
    stream = decode_ahead(source, rows, draws, group=group, threads=threads, device=encoder.device)
    while some := list(islice(stream, group)):
        pixels = [clip for one in some if not one.errors for clip in one.pixels if clip is not None]
        values = torch.empty(0)
        if pixels:
            values = pool_tokens(encoder(pixels), encoder.frozen.grid, pool).cpu()
            values = values if draws.count == 1 else values.unflatten(0, (-1, draws.count))
        made = iter(values)
        for one in some:
            if one.errors:
                yield one.sample, next(iter(one.errors.values()))
                continue
            feature = next(made)
            if not feature.isfinite().all():
                raise UserError(f"the features of {one.sample.key} are not finite numbers: the encoder is damaged")
            yield one.sample, feature


def open_listed(videos: str | Path | Sequence[str | Path]) -> tuple[Source, list[int], dict[str, str]]:
    """Open videos: a folder of them or of shards, one file or URL; or a list of files.

    Returns:
        (the videos; their rows in the order given; for a list, the path that was given for each key).

    Raises:
        FileNotFoundError, ValueError: as :func:`fastvid.data.open_parts`; or a list that is empty or has folders.
    """
    if isinstance(videos, str | Path):
        source = open_parts(videos)
        return source, list(range(len(source.samples))), {}
    paths = [Path(video).expanduser() for video in videos]
    if not paths:
        raise ValueError("no videos are given")
    if folder := next((path for path in paths if path.is_dir()), None):
        raise ValueError(f"{folder} is a folder: give one folder alone, or a list of video files")
    absolute = [Path(os.path.abspath(path)) for path in paths]
    root = Path(os.path.commonpath([path.parent for path in absolute]))
    names = [path.relative_to(root).as_posix() for path in absolute]
    source = FolderSource(root, None, sorted(set(names)))
    row = {sample.key: index for index, sample in enumerate(source.samples)}
    given = {spelled(name): str(video) for name, video in zip(names, videos, strict=True)}
    return source, [row[spelled(name)] for name in names], given


def features_of(
    encoder: FrozenEncoder,
    videos: str | Path | Sequence[str | Path],
    draws: EvaluationDraws,
    *,
    pool: Pool,
    threads: int,
) -> VideoFeatures:
    """Return the features of videos, in memory; see :func:`stream_features` and :func:`open_listed`."""
    source, rows, given = open_listed(videos)
    keys: list[str] = []
    values: list[torch.Tensor] = []
    labels: list[str | None] = []
    bad: dict[str, str] = {}
    for sample, feature in stream_features(encoder, source, rows, draws, pool=pool, threads=threads):
        key = given.get(sample.key, sample.key)
        if isinstance(feature, DecodeError):
            bad[key] = str(feature)
            continue
        keys.append(key)
        values.append(feature)
        labels.append(sample.label)
    return VideoFeatures(keys, torch.stack(values) if values else torch.empty(0, encoder.frozen.dim), labels, bad)
