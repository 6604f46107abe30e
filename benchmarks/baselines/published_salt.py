"""A step of SALT pretraining as published with SALT-VLA, re-stated literally in plain PyTorch.

Float video, a Conv3d over all tokens and a gather of the visible ones, a predictor over the full grid, masks from a
Python loop, an eager loss. It can take the weights of fastvid's modules, so that both compute the same loss and
gradients to float32 rounding; the one departure from what was published is for that: positions of the predictor are
fixed, where the published ones start from noise and are learnt.
"""

import copy
import random
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fastvid.models import VideoViT
from fastvid.nn import Predictor

Grid = tuple[int, int, int]


def float_video(clip: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Map uint8 [B, T, H, W, 3] to normalised float32 [B, 3, T, H, W], the output of the published loader."""
    video = clip.permute(0, 4, 1, 2, 3).contiguous().float() / 255
    shape = (1, 3, 1, 1, 1)
    return (video - torch.tensor(mean, device=clip.device).view(shape)) / torch.tensor(std, device=clip.device).view(
        shape
    )


def masks(batch: int, grid: Grid, masked: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw per sample 4 to 8 blocks, then random tokens to the exact count: visible [B, V] and masked [B, M]."""
    t, h, w = grid
    visible_rows, masked_rows = [], []
    for _ in range(batch):
        cells = torch.zeros(grid, dtype=torch.bool, device=device)
        for _ in range(random.randint(4, 8)):
            dt = max(1, int(t * random.uniform(0.1, 0.5)))
            dh = max(1, int(h * random.uniform(0.15, 0.7)))
            dw = max(1, int(w * random.uniform(0.15, 0.7)))
            t0, h0, w0 = random.randint(0, t - dt), random.randint(0, h - dh), random.randint(0, w - dw)
            cells[t0 : t0 + dt, h0 : h0 + dh, w0 : w0 + dw] = True
        flat = cells.flatten()
        missing = masked - int(flat.sum())
        pool = (~flat if missing > 0 else flat).nonzero().squeeze(1)
        flat[pool[torch.randperm(len(pool), device=device)[: abs(missing)]]] = missing > 0
        masked_rows.append(flat.nonzero().squeeze(1))
        visible_rows.append((~flat).nonzero().squeeze(1))
    return torch.stack(visible_rows), torch.stack(masked_rows)


def gather(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Map x [B, N, D] at index [B, K] to [B, K, D], with the index repeated for each element of a row."""
    return torch.gather(x, 1, index.unsqueeze(-1).repeat(1, 1, x.shape[2]))


class PublishedEncoder(nn.Module):
    """timm's blocks over tokens of a Conv3d; with an index, over the visible ones, picked after the Conv3d.

    Args:
        encoder: its weights are copied.
    """

    def __init__(self, encoder: VideoViT):
        super().__init__()
        self.patch_embed = copy.deepcopy(encoder.patch_embed.proj)
        self.positions: torch.Tensor
        if isinstance(encoder.positions, nn.Parameter):
            self.positions = nn.Parameter(encoder.positions.detach().clone())
        else:
            self.register_buffer("positions", encoder.positions.clone())
        self.blocks, self.norm = copy.deepcopy(encoder.blocks), copy.deepcopy(encoder.norm)

    def embed(self, video: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """Map video float [B, 3, T, H, W] to tokens with positions [B, V, D], or of all N."""
        x = self.patch_embed(video).flatten(2).transpose(1, 2)  # [B, N, D]
        positions = self.positions.expand(len(x), -1, -1)
        if visible is None:
            return x + positions
        return gather(x, visible) + gather(positions, visible)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, V, D] to [B, V, D]."""
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class PublishedPredictor(nn.Module):
    """nn.TransformerEncoder over the full grid: visible tokens where they belong, mask tokens everywhere else.

    Args:
        predictor: its weights are copied; of layout "dense" or "concat", whose parameters are the same.
    """

    positions: torch.Tensor

    def __init__(self, predictor: Predictor):
        super().__init__()
        self.embed, self.norm, self.head = (copy.deepcopy(m) for m in (predictor.embed, predictor.norm, predictor.head))
        self.mask_token = nn.Parameter(predictor.mask_tokens.detach()[0].clone())
        self.register_buffer("positions", predictor.positions.clone())
        first: Any = predictor.blocks[0]
        layer = nn.TransformerEncoderLayer(
            predictor.embed.out_features, first.attn.num_heads, first.mlp.fc1.out_features, dropout=0.0,
            activation="gelu", layer_norm_eps=first.norm1.eps, batch_first=True, norm_first=True,
        )  # fmt: skip
        self.blocks = nn.TransformerEncoder(layer, len(predictor.blocks), enable_nested_tensor=False)
        with torch.no_grad():
            for layer, block in zip(self.blocks.layers, predictor.blocks, strict=True):
                for name, value in layer.named_parameters():
                    value.copy_(block.get_parameter(fastvid_name(name)))

    def forward(self, z: torch.Tensor, visible: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Map z [B, V, D] at visible [B, V] to predictions [B, M, out] at masked [B, M]."""
        z = self.embed(z)
        x = self.mask_token.to(z.dtype).expand(len(z), len(self.positions), -1).clone()
        x = x.scatter(1, visible.unsqueeze(-1).repeat(1, 1, z.shape[2]), z)
        x = self.norm(self.blocks(x + self.positions))
        return self.head(gather(x, masked))


def loss(pred: torch.Tensor, target: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    """Compute the mean squared error of pred [B, M, D] to the normalised rows of target [B, N, D] at masked [B, M]."""
    target = F.layer_norm(target.float(), (target.shape[-1],))
    return F.mse_loss(pred.float(), gather(target, masked))


_NAMES = {
    "self_attn.in_proj_weight": "attn.qkv.weight",
    "self_attn.in_proj_bias": "attn.qkv.bias",
    "self_attn.out_proj": "attn.proj",
    "linear1": "mlp.fc1",
    "linear2": "mlp.fc2",
}


def fastvid_name(name: str) -> str:
    """Return the name of a TransformerEncoderLayer's parameter in a block of fastvid's predictor, or of
    PublishedEncoder's and PublishedPredictor's in fastvid's module."""
    for published, ours in _NAMES.items():
        name = name.replace(published, ours)
    return name.replace("blocks.layers.", "blocks.").replace("mask_token", "mask_tokens")
