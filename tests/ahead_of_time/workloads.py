"""The launches whose compilation is guarded: each op at sizes that users have, on meta tensors."""

from collections.abc import Callable

import torch

from fastvid.ops import MaskSpec
from fastvid.ops.gather_tokens import triton as gather_tokens
from fastvid.ops.gather_tubelets import triton as gather_tubelets
from fastvid.ops.masked_latent_loss import triton as masked_latent_loss
from fastvid.ops.multiblock_mask import triton as multiblock_mask

BF16, F32, I8, I64 = torch.bfloat16, torch.float32, torch.int8, torch.int64


def meta(*shape: int, dtype: torch.dtype = F32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _loss(kind: str, pred: torch.dtype, target: torch.dtype, D: int, normalize=True):
    scale = meta(24, 1568, dtype=torch.float16) if target == I8 else None
    return lambda: masked_latent_loss.masked_latent_loss(
        meta(24, 1176, D, dtype=pred), meta(24, 1568, D, dtype=target), scale, meta(24, 1176, dtype=I64),
        kind, normalize, True, "triton",
    )  # fmt: skip


def _tubelets(patch: int, index: torch.Tensor | None):
    clip = meta(24, 16, 224, 224, 3, dtype=torch.uint8)
    half = [0.5, 0.5, 0.5]
    return lambda: gather_tubelets.gather_tubelets(clip, index, 2, patch, half, half, BF16, "triton")


def _masks(spec: MaskSpec, grid: tuple[int, int, int], masked: int, visible: int):
    plan = spec.plan(grid, masked, visible)
    return lambda: multiblock_mask.multiblock_mask(meta(32, dtype=I64), plan, 0, 7, "triton")


WORKLOADS: dict[str, Callable[[], object]] = {
    "gather_tokens ViT-B bf16": lambda: gather_tokens.gather_tokens(
        meta(24, 1568, 768, dtype=BF16), meta(24, 1176, dtype=I64), "triton"
    ),
    "gather_tokens ViT-L fp32": lambda: gather_tokens.gather_tokens(
        meta(24, 2048, 1024), meta(24, 880, dtype=I64), "triton"
    ),
    "scatter_tokens ViT-B bf16": lambda: gather_tokens.scatter_tokens(
        meta(24, 1176, 768, dtype=BF16), meta(24, 1176, dtype=I64), 1568, "triton"
    ),
    "gather_tubelets visible": _tubelets(16, meta(24, 392, dtype=I64)),
    "gather_tubelets all": _tubelets(16, None),
    "gather_tubelets patch 14": _tubelets(14, meta(24, 392, dtype=I64)),
    "masked_latent_loss mse bf16": _loss("mse", BF16, BF16, 768),
    "masked_latent_loss l1 fp32 on bf16": _loss("l1", F32, BF16, 1024),
    "masked_latent_loss smooth_l1 bf16 on int8": _loss("smooth_l1", BF16, I8, 1024),
    "masked_latent_loss cosine fp32": _loss("cosine", F32, F32, 768, normalize=False),
    "masked_latent_loss mse 8192 wide": _loss("mse", BF16, BF16, 8192),
    "scale_gradient bf16": lambda: masked_latent_loss.scale_gradient(
        meta(24, 1176, 768, dtype=BF16), meta(), 1.0, "triton"
    ),
    "multiblock_mask multiblock": _masks(MaskSpec.multiblock(), (8, 14, 14), 1176, 392),
    "multiblock_mask salt": _masks(MaskSpec.salt(), (8, 14, 14), 1176, 392),
    "multiblock_mask vjepa_short": _masks(MaskSpec.vjepa_short(), (8, 16, 16), 960, 500),
    "multiblock_mask tube": _masks(MaskSpec.tube(), (8, 14, 14), 1176, 392),
}
