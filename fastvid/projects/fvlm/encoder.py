"""Vision transformers that keep every layer's keys and values, so that queries can look at a frame again and again.

Patches never see a query: a query passes through the layers by itself and attends to the patches' keys and values, as a
token appended to the sequence would if no other token could see it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD, query_attend
from fastvid.projects.fvlm.compiled import Compiled

Depth = Literal["deep", "shallow"]
Map = Callable[[torch.Tensor], torch.Tensor]


def same(x: torch.Tensor) -> torch.Tensor:
    """Return the argument, as where positions are added and nothing has to be rotated, or nothing is normalised."""
    return x


@dataclass(frozen=True)
class Block:
    """The parts of one transformer layer, as functions on its tokens [..., D].

    Attributes:
        norm1: norm in front of the attention.
        query: its query projection, to [..., heads * d].
        key: its key projection.
        value: its value projection.
        out: its output projection, from [..., heads * d].
        scale1: factor of what the attention adds.
        norm2: norm in front of the hidden layer.
        mlp: the hidden layer.
        scale2: factor of what it adds.
        norm_query: norm of each head's queries [..., d].
        norm_key: norm of each head's keys.
        finish: maps tokens in front of the layer, and what their heads attended to, to the tokens after it, where there
            is a lighter way for many tokens than the parts above; None for these.
    """

    norm1: Map
    query: Map
    key: Map
    value: Map
    out: Map
    scale1: Map
    norm2: Map
    mlp: Map
    scale2: Map
    norm_query: Map = same
    norm_key: Map = same
    finish: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None


@dataclass(frozen=True)
class Keys:
    """Keys and values of C clips of T frames: all that queries need of them.

    Attributes:
        layers: the key and value of each layer that queries pass through, views [C * T, heads, N, d].
        clips: C.
    """

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    clips: int

    @property
    def frames(self) -> int:
        """Return T: 1 for a still image, however often it is looked at, and 0 where there is no picture."""
        return len(self.layers[0][0]) // self.clips if self.layers else 0

    def split(self) -> list["Keys"]:
        """Return the keys of each frame of the clips, T of them."""
        # One unbind for all frames: its backward pass stacks once, where slices would each fill a tensor of zeros.
        parts = [[x.unflatten(0, (self.clips, -1)).unbind(1) for x in layer] for layer in self.layers]
        return [Keys(tuple((k[t], v[t]) for k, v in parts), self.clips) for t in range(self.frames)]

    def clip(self, index: int) -> "Keys":
        """Return the keys of one clip."""
        rows = slice(index * self.frames, (index + 1) * self.frames)
        return Keys(tuple((key[rows], value[rows]) for key, value in self.layers), 1)


@dataclass(frozen=True)
class Gaze:
    """The results of queries' looks, and their attention.

    Attributes:
        seen: [F, S, D], what each query brings back.
        entropy: float32 [layers, F, S, heads] in nats; None unless asked for.
        attention: float32 [F, S, heads, N] of each layer; None unless asked for.
    """

    seen: torch.Tensor
    entropy: torch.Tensor | None = None
    attention: list[torch.Tensor] | None = None


class VisionEncoder(nn.Module, ABC):
    """A vision transformer that is encoded once a frame and looked at by queries.

    Dropout, stochastic depth and the jitter of positions are never applied: the passes over one frame must agree.

    Args:
        model: the transformer; its parameters keep its names.
        width: D, width of its tokens.
        heads: attention heads of each layer.
        patch: side of a patch in pixels.
        prefix: tokens in front of the patches, such as the class token.
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel standard deviation of pixels in [0, 1].
    """

    model: Any
    whole_in_step = True  # under FSDP: the parts of its layers are called, never a layer

    def __init__(
        self,
        model: nn.Module,
        *,
        width: int,
        heads: int,
        patch: int,
        prefix: int,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ):
        super().__init__()
        self.model = model
        self.width, self.heads, self.patch, self.prefix = width, heads, patch, prefix
        self.mean, self.std = mean, std
        self.depth: Depth = "deep"

    @abstractmethod
    def embed(self, pixels: torch.Tensor) -> tuple[torch.Tensor, Map]:
        """Map normalised pixels [F, 3, H, W] to tokens [F, N, D], and return the rotation of queries and keys
        [F, heads, N, d] by their places."""

    @abstractmethod
    def blocks(self) -> list[Block]:
        """Return the layers."""

    @abstractmethod
    def norm(self, tokens: torch.Tensor) -> torch.Tensor:
        """Apply the norm behind the last layer."""

    def patches(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of whole patches of a frame. Pixels at its right and lower edge that fill none
        are not seen, as a convolution without padding does not see them.

        Raises:
            ValueError: it is smaller than a patch.
        """
        if height < self.patch or width < self.patch:
            raise ValueError(f"frames of {width} x {height} are smaller than a patch of {self.patch} x {self.patch}")
        return height // self.patch, width // self.patch

    def encode(self, clips: torch.Tensor) -> Keys:
        """Compute the keys and values of clips uint8 [C, T, H, W, 3].

        The patches' own attention uses the same keys and values. A deep query needs nothing else, so that the last
        layer is not finished; a shallow query needs the finished patches only.
        """
        if not clips.shape[1]:
            return Keys((), len(clips))
        rows, columns = self.patches(*clips.shape[2:4])
        clips = clips[:, :, : rows * self.patch, : columns * self.patch]
        tokens, rotate = self.embed(self._normalised(clips.flatten(0, 1)))
        blocks = self.blocks()
        cached = []
        for block in blocks:
            normed = block.norm1(tokens)
            key, value = self._heads(block.key(normed)), self._heads(block.value(normed))
            key = rotate(block.norm_key(key)).to(value.dtype)
            if self.depth == "deep":
                cached.append((key, value))
                if block is blocks[-1]:
                    break
            query = rotate(block.norm_query(self._heads(block.query(normed)))).to(value.dtype)
            attended = functional.scaled_dot_product_attention(query, key, value)
            finish = block.finish or partial(_finish, block)
            tokens = finish(tokens, attended.transpose(1, 2).flatten(2))
        if self.depth == "shallow":
            patches = self.norm(tokens).unsqueeze(1)
            cached = [(patches, patches)]
        return Keys(tuple(cached), len(clips))

    def compile_parts(self) -> None:
        """Compile :meth:`encode` and :meth:`look` for training."""
        self.encode = Compiled(self.encode)  # type: ignore[method-assign]
        self.look = Compiled(self.look)  # type: ignore[method-assign]

    def look(
        self,
        queries: torch.Tensor,
        keys: Keys,
        *,
        uniform: bool = False,
        truth: torch.Tensor | None = None,
        entropy: bool = False,
        attention: bool = False,
    ) -> Gaze:
        """Let queries look at frames.

        Args:
            queries: [F, S, D], S queries of each of F frames.
            keys: of these frames.
            uniform: attend to all tokens alike, whatever the queries are.
            truth: int64 [F, S], the patch that all heads of all layers attend to alone; -1 to leave a query as it is.
            entropy: also return the attention's entropy, which is differentiable.
            attention: also return both.
        """
        entropies: list[torch.Tensor] = []
        weights: list[torch.Tensor] = []

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            """Attend with queries [F, S, heads * d]."""
            query = query.unflatten(-1, (key.shape[1], -1)).transpose(1, 2).to(value.dtype)
            if uniform:
                query = torch.zeros_like(query)
            at = None if truth is None else (truth + self.prefix).masked_fill(truth < 0, -1)[:, None, :, None]
            if entropy or attention:
                out, found, _ = query_attend(query, key, value, return_stats=True)
                if at is not None:
                    found = found.masked_fill(at[..., 0] >= 0, 0.0)
                entropies.append(found.transpose(1, 2))
            else:
                out = query_attend(query, key, value)
            if attention:
                weights.append(_weights(query, key, at).transpose(1, 2))
            if at is not None:
                places = at.clamp(min=0).expand(-1, value.shape[1], -1, value.shape[-1])
                out = torch.where(at >= 0, value.gather(2, places), out)
            return out.transpose(1, 2).flatten(2)

        tokens = queries
        if self.depth == "shallow":
            tokens = attend(queries, *keys.layers[0])
        else:
            for block, (key, value) in zip(self.blocks(), keys.layers, strict=True):
                query = block.norm_query(self._heads(block.query(block.norm1(tokens))))
                tokens = _finish(block, tokens, attend(query.transpose(1, 2).flatten(2), key, value))
            tokens = self.norm(tokens)
        return Gaze(tokens, torch.stack(entropies) if entropies else None, weights or None)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        heads: torch.Tensor = x.unflatten(-1, (self.heads, -1))
        return heads.transpose(-3, -2)

    def _normalised(self, frames: torch.Tensor) -> torch.Tensor:
        dtype = next(self.model.parameters()).dtype
        exact = torch.promote_types(dtype, torch.float32)
        mean, std = (frames.new_tensor(x, dtype=exact)[:, None, None] for x in (self.mean, self.std))
        # Planes first: three channels in a row do not vectorise.
        pixels = frames.permute(0, 3, 1, 2).contiguous().to(exact)
        return pixels.mul_(1 / (255 * std)).sub_(mean / std).to(dtype)


def _finish(block: Block, tokens: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """Return the tokens after a layer whose attention gave ``attended`` [..., heads * d]."""
    tokens = tokens + block.scale1(block.out(attended))
    finished: torch.Tensor = tokens + block.scale2(block.mlp(block.norm2(tokens)))
    return finished


def _weights(query: torch.Tensor, key: torch.Tensor, at: torch.Tensor | None) -> torch.Tensor:
    """Return the attention of queries [F, heads, S, d] on keys [F, heads, N, d], float32 [F, heads, S, N], as the op
    computes it, without a gradient.

    Args:
        query: queries.
        key: keys.
        at: int64 [F, 1, S, 1], the only token attended to; -1 for queries that attend by themselves.
    """
    with torch.autocast(query.device.type, enabled=False):
        scores = query.detach().float() @ key.detach().float().mT * query.shape[-1] ** -0.5
    weights: torch.Tensor = scores.softmax(-1)
    if at is None:
        return weights
    sharp = torch.zeros_like(weights).scatter(-1, at.clamp(min=0).expand(-1, weights.shape[1], -1, -1), 1.0)
    return torch.where(at >= 0, sharp, weights)
