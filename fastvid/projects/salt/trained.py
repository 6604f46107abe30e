"""A trained encoder with all that it takes to feed it."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import nn

from fastvid.data import EvaluationDraws
from fastvid.data.worker_pool import default_threads
from fastvid.latents.video_features import Pool, VideoFeatures, features_of, frozen_encoder, pool_tokens
from fastvid.models.fingerprint import teacher_fingerprint
from fastvid.models.teachers import EncoderTeacher
from fastvid.models.vit import VideoViT
from fastvid.video import ViewSpec

Clips = torch.Tensor | np.ndarray[Any, Any]
Videos = str | Path | Sequence[str | Path]


class TrainedEncoder(nn.Module):
    """An encoder to be used: in eval mode for good, without gradients, with all that it takes to feed it.

    Attributes:
        encoder: the video ViT.
        views: the clips it was trained on: ``views.center(key, info)`` is a video's.
        name: ``"student"``, or ``"teacher"`` for the encoder of the pixel stage.
        grid: (T, H, W) tokens of a clip.
        dim: width of a token.
    """

    def __init__(self, encoder: VideoViT, views: ViewSpec, name: str = "student"):
        super().__init__()
        self.name = name
        self.encoder, self.views, self.grid, self.dim = encoder, views, encoder.grid, encoder.dim
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "TrainedEncoder":
        """Do nothing: a trained encoder stays in eval mode."""
        return super().train(False)

    def forward(self, clips: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        """Map clips uint8 [B, T, H, W, 3] on the encoder's device to tokens [B, N, dim], in order of time, row, column;
        with ``index`` int64 [B, V], to those tokens alone, [B, V, dim], which then see no others.
        """
        tokens: torch.Tensor = self.encoder(clips, index)
        return tokens

    @cached_property  # of weights that stay as they are: hashing a large encoder takes a second
    def fingerprint(self) -> dict[str, str]:
        """Return the kind of the encoder, its configuration's sha256 and that of its weights, as caches record them."""
        return teacher_fingerprint(EncoderTeacher(self.encoder))

    @overload
    def encode(self, videos: Clips, *, pool: Pool = ..., clips: int = ..., batch: int = ...) -> torch.Tensor: ...

    @overload
    def encode(self, videos: Videos, *, pool: Pool = ..., clips: int = ..., batch: int = ...) -> VideoFeatures: ...

    @torch.no_grad()
    def encode(
        self, videos: Clips | Videos, *, pool: Pool = "mean", clips: int = 1, batch: int = 32
    ) -> torch.Tensor | VideoFeatures:
        """Compute the features of clips, or of video files: of each its centre view, or ``clips`` moments of it.

        Args:
            videos: clips uint8 [B, T, H, W, 3]; or a folder of videos or shards, a video file, or a list of files.
            pool: ``"mean"`` of all tokens, ``"time"``: the mean of each time slot's, or all ``"tokens"``.
            clips: of each video file.
            batch: clips of a forward pass.

        Returns:
            For clips, float32 [B, dim], [B, T', dim] or [B, N, dim] by ``pool``, on the CPU. For files, the same with
            their keys, as :class:`fastvid.latents.video_features.VideoFeatures`; a file that cannot be used is in its
            ``bad``.

        Raises:
            ValueError: clips of another shape, or no such pool.
            FileNotFoundError: no videos are there.

        Example:
            >>> model = fastvid.load("runs/salt-...")
            >>> features = model.encode("path/to/videos")
            >>> features.keys, features.values  # names, float32 [n, dim]
        """
        device = next(self.encoder.parameters()).device
        if isinstance(videos, torch.Tensor | np.ndarray):
            whole = torch.as_tensor(videos)
            if whole.dtype != torch.uint8 or whole.ndim != 5:
                raise ValueError(f"clips are uint8 [B, T, H, W, 3]; got {whole.dtype} {list(whole.shape)}")
            parts = [pool_tokens(self(part.to(device)).float(), self.grid, pool).cpu() for part in whole.split(batch)]
            return torch.cat(parts)
        encoder = frozen_encoder(self, device=device, batch=batch)
        draws = EvaluationDraws(self.views, clips)
        return features_of(encoder, videos, draws, pool=pool, threads=default_threads())
