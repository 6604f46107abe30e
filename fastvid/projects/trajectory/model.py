"""The classifier: a transformer over the tokens of all objects, a verdict for each track, and one query that reads."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from fastvid.projects.trajectory.batches import CODE_BITS, GEOMETRY, TokenBatch
from fastvid.projects.trajectory.config import ModelConfig

_MASKED = -1e4  # finite: a video without any token must not become nan


@dataclass
class Output:
    """The classifier's answers for B videos.

    Attributes:
        target: logits [B, C] of the video's class.
        verdicts: logits [B, M] of "this track is persistent"; meaningless where no token of it is present.
        attention: [B, L], the read-out query's attention, mean over heads; 0 for padding, its sum is 1.
        tracks: [B, M, width], embedding of each track.
        durations: [B, M], estimate of the share of the video's frames in which the track is seen.
    """

    target: torch.Tensor
    verdicts: torch.Tensor
    attention: torch.Tensor
    tracks: torch.Tensor
    durations: torch.Tensor


class TrajectoryModel(nn.Module):
    """Classifies videos by their objects.

    Each token is its features, its place, its time and its track's code. After the layers, every track's verdict is
    read from the mean of its tokens, and one learned query attends to all tokens and reads the video's class. The
    attention of that query is what is measured and supervised: it is the one that decides.

    Args:
        config: sizes.
        features: width of a token's features.
        classes: classes of a video.
    """

    def __init__(self, config: ModelConfig, features: int, classes: int):
        super().__init__()
        width = config.width
        self.config, self.classes = config, classes
        self.features = nn.Sequential(nn.Linear(features, width), nn.LayerNorm(width))
        self.geometry = nn.Sequential(nn.Linear(GEOMETRY, width), nn.GELU(), nn.Linear(width, width))
        self.code = nn.Linear(CODE_BITS, width, bias=False) if config.track_code else None
        self.layers = nn.ModuleList(Layer(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        # Small, so that attention begins near uniform: a query of unit size attends to one kind of object in all videos
        # alike before it has learnt anything, for what looks alike has like keys.
        self.query = nn.Parameter(0.1 * torch.randn(width))
        self.read = nn.Linear(width, 2 * width)
        self.verdict = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.duration = nn.Linear(width, 1)
        self.target = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, classes))

    def forward(self, batch: TokenBatch) -> Output:
        """Classify a batch."""
        x = self.encode(batch)
        member = batch.track[:, None, :] == torch.arange(batch.kinds.shape[1], device=x.device)[None, :, None]
        member = (member & batch.valid[:, None, :]).to(x.dtype)
        tracks = member @ x / member.sum(-1, keepdim=True).clamp(min=1)
        weights = self.readout(x, batch.valid)
        values = self.read(x).chunk(2, -1)[1].unflatten(-1, (self.config.heads, -1))
        pooled = torch.einsum("bhl,blhd->bhd", weights, values).flatten(1)
        return Output(
            target=self.target(pooled),
            verdicts=self.verdict(tracks).squeeze(-1).float(),
            attention=weights.float().mean(1),
            tracks=tracks,
            durations=self.duration(tracks).squeeze(-1).float(),
        )

    def encode(self, batch: TokenBatch, kept: list[torch.Tensor] | None = None) -> torch.Tensor:
        """Return the tokens after all layers, [B, L, width].

        Args:
            batch: of tokens.
            kept: receives the attention of each layer, [B, L, L], its mean over heads.
        """
        x = self.features(batch.features) + self.geometry(batch.geometry)
        x = x + _time(batch.frame, self.config.width).to(x.dtype)
        if self.code is not None:
            x = x + self.code(batch.codes)
        mask = torch.zeros(batch.valid.shape, dtype=x.dtype, device=x.device).masked_fill(~batch.valid, _MASKED)
        for layer in self.layers:
            x = layer(x, mask[:, None, None, :], kept)
        tokens: torch.Tensor = self.norm(x)
        return tokens

    def readout(self, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Return the attention of the read-out query on the tokens, [B, heads, L]."""
        heads = self.config.heads
        keys = self.read(x).chunk(2, -1)[0].unflatten(-1, (heads, -1))
        query = self.query.view(heads, -1).to(keys.dtype)
        logits = torch.einsum("hd,blhd->bhl", query, keys) / math.sqrt(query.shape[-1])
        return logits.masked_fill(~valid[:, None], _MASKED).softmax(-1) * valid[:, None]


class Layer(nn.Module):
    """A transformer layer, normalised before attention and before the hidden layer."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm, self.attend, self.project = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor, kept: list[torch.Tensor] | None = None) -> torch.Tensor:
        """Return the tokens [B, L, width] after this layer; ``mask`` is added to the attention's logits."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.attend(self.norm(x)).chunk(3, -1)
        )
        if kept is None:
            attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask.expand(-1, -1, q.shape[2], -1))
        else:
            weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask).softmax(-1)
            kept.append(weights.mean(1))
            attended = weights @ v
        attended = self.project(attended.transpose(1, 2).flatten(2))
        x = x + functional.dropout(attended, self.dropout, self.training)
        out: torch.Tensor = x + self.hidden(x)
        return out


def _time(frame: torch.Tensor, width: int) -> torch.Tensor:
    """Return sines and cosines of the frame's number, [B, L, width]."""
    half = width // 2
    rates = torch.exp(torch.arange(half, device=frame.device) * (-math.log(1000.0) / max(1, half - 1)))
    angles = frame[..., None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], -1)
    return functional.pad(waves, (0, width - waves.shape[-1]))
