"""A vision transformer that is encoded once a frame, and that queries look at.

Patches never see a query. A query passes through the layers by itself and attends to the patches' keys and values, as a
token appended to the sequence would if no other token could see it.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.activations import ACT2FN

Keys = list[tuple[torch.Tensor, torch.Tensor]]
"""The key and value of each layer that queries pass through, [F, heads, N, d]."""


class FoveatedViT(nn.Module):
    """The transformer.

    Args:
        config: a ``FoveatedVisionConfig``.
        depth: ``deep`` or ``shallow``; see ``FoveatedVLMConfig.query``.
    """

    def __init__(self, config: Any, depth: str):
        super().__init__()
        self.config, self.depth = config, depth
        width, patch = config.hidden_size, config.patch_size
        self.patch_embedding = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.prefix = nn.Parameter(torch.zeros(config.prefix_tokens, width))
        self.positions = None if config.grid is None else nn.Parameter(torch.zeros(math.prod(config.grid), width))
        self.input_norm = nn.LayerNorm(width, eps=config.layer_norm_eps) if config.input_norm else nn.Identity()
        self.layers: Any = nn.ModuleList([Layer(config) for _ in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps) if config.final_norm else nn.Identity()

    def encode(self, pixels: torch.Tensor) -> Keys:
        """Compute the keys and values of frames, normalised pixels [F, 3, H, W]."""
        tokens, rotation = self.embed(pixels)
        keys: Keys = []
        for layer in self.layers:
            normed = layer.norm1(tokens)
            key, value = layer.heads(layer.key(normed)), layer.heads(layer.value(normed))
            key = rotate(layer.norm_key(key), rotation)
            if self.depth == "deep":
                keys.append((key, value))
                if layer is self.layers[-1]:  # a query needs nothing else of it
                    return keys
            query = rotate(layer.norm_query(layer.heads(layer.query(normed))), rotation)
            attended = functional.scaled_dot_product_attention(query, key, value)
            tokens = layer.finish(tokens, attended)
        patches = self.norm(tokens).unsqueeze(1)
        return [(patches, patches)]

    def look(self, queries: torch.Tensor, keys: Keys) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Let S queries look at each of F frames.

        Args:
            queries: [F, S, D].
            keys: of the frames.

        Returns:
            What the queries bring back, [F, S, D], and the attention of each layer, float32 [F, S, heads, N].
        """
        gaze: list[torch.Tensor] = []

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            wide = torch.promote_types(query.dtype, torch.float32)
            with torch.autocast(query.device.type, enabled=False):
                weights = (query.to(wide) @ key.to(wide).mT * query.shape[-1] ** -0.5).softmax(-1)
                gaze.append(weights.detach().float().transpose(1, 2))
                return (weights @ value.to(wide)).to(value.dtype)

        if self.depth == "shallow":
            return attend(queries.unsqueeze(1), *keys[0]).squeeze(1), gaze
        tokens = queries
        for layer, (key, value) in zip(self.layers, keys, strict=True):
            query = layer.norm_query(layer.heads(layer.query(layer.norm1(tokens))))
            tokens = layer.finish(tokens, attend(query, key, value))
        return self.norm(tokens), gaze

    def embed(self, pixels: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
        """Map pixels [F, 3, H, W] to tokens [F, N, D]; return also the rotation of patches by their places."""
        patches = self.patch_embedding(pixels)
        grid = patches.shape[-2:]
        patches = patches.flatten(2).transpose(1, 2)
        if self.positions is not None:
            patches = patches + self.resized(self.positions, *grid)
        tokens = torch.cat([self.prefix.expand(len(patches), -1, -1), patches], 1)
        return self.input_norm(tokens), self.rotation(tokens, *grid) if self.positions is None else None

    def resized(self, positions: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Return the learnt positions of a grid, [rows * columns, D]."""
        if (rows, columns) == tuple(self.config.grid):
            return positions
        square = positions.float().unflatten(0, tuple(self.config.grid)).permute(2, 0, 1)[None]
        resized = functional.interpolate(
            square, size=(rows, columns), mode="bicubic", align_corners=False, antialias=self.config.antialias
        )
        return resized[0].flatten(1).T.to(positions.dtype)

    def rotation(self, tokens: torch.Tensor, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines of a grid's patches, [rows * columns, d], by places in [-1, 1], as DINOv3 has it."""
        d = self.config.hidden_size // self.config.num_attention_heads
        centres = [2 * (torch.arange(0.5, n, device=tokens.device) / n) - 1 for n in (rows, columns)]
        places = torch.stack(torch.meshgrid(*centres, indexing="ij"), -1).flatten(0, 1)
        frequencies = 1 / self.config.rotary_base ** torch.arange(0, 1, 4 / d, device=tokens.device)
        angles = (2 * math.pi * places[:, :, None] * frequencies).flatten(1).tile(2)
        return angles.cos().to(tokens.dtype), angles.sin().to(tokens.dtype)


class Layer(nn.Module):
    """One layer.

    Args:
        config: a ``FoveatedVisionConfig``.
    """

    def __init__(self, config: Any):
        super().__init__()
        width, eps, self.count = config.hidden_size, config.layer_norm_eps, config.num_attention_heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.scale1, self.scale2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.mlp = HiddenPart(config)
        d = width // self.count
        self.norm_query = nn.LayerNorm(d, eps=eps) if config.head_norm else nn.Identity()
        self.norm_key = nn.LayerNorm(d, eps=eps) if config.head_norm else nn.Identity()

    def heads(self, x: torch.Tensor) -> torch.Tensor:
        """Split [..., N, D] into heads [..., heads, N, d]."""
        return x.unflatten(-1, (self.count, -1)).transpose(-3, -2)

    def finish(self, tokens: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Return the tokens after the layer, whose attention gave ``attended`` [F, heads, N, d]."""
        tokens = tokens + self.out(attended.transpose(1, 2).flatten(2)) * self.scale1
        return tokens + self.mlp(self.norm2(tokens)) * self.scale2


class HiddenPart(nn.Module):
    """The hidden part of a layer, gated or not.

    Args:
        config: a ``FoveatedVisionConfig``.
    """

    def __init__(self, config: Any):
        super().__init__()
        width, hidden = config.hidden_size, config.intermediate_size
        self.gate = nn.Linear(width, hidden) if config.gated else None
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.act = ACT2FN[config.hidden_act]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [..., D] to [..., D]."""
        return self.down(self.act(self.up(x)) if self.gate is None else self.act(self.gate(x)) * self.up(x))


def rotate(x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
    """Rotate queries or keys [F, heads, N, d] of patches; tokens in front of them have no place."""
    if rotation is None:
        return x
    cos, sin = rotation
    first, patches = x.split([x.shape[-2] - len(cos), len(cos)], -2)
    left, right = patches.chunk(2, -1)
    return torch.cat([first, patches * cos + torch.cat([-right, left], -1) * sin], -2)
