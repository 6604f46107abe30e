"""The launches whose compilation is guarded: each op at sizes that users have, on meta tensors.

A workload makes its inputs and returns the call.
"""

from collections.abc import Callable

import torch

from fastvid.ops import MaskSpec
from fastvid.ops.foveated_glimpse import triton as foveated_glimpse
from fastvid.ops.gather_tokens import triton as gather_tokens
from fastvid.ops.gather_tubelets import triton as gather_tubelets
from fastvid.ops.masked_latent_loss import triton as masked_latent_loss
from fastvid.ops.multiblock_mask import triton as multiblock_mask
from fastvid.ops.query_attend import triton as query_attend

BF16, F32, I8, I64 = torch.bfloat16, torch.float32, torch.int8, torch.int64


def meta(*shape: int, dtype: torch.dtype = F32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _gather(D: int, N: int, K: int, dtype: torch.dtype):
    x, index = meta(24, N, D, dtype=dtype), meta(24, K, dtype=I64)
    return lambda: gather_tokens.gather_tokens(x, index, "triton")


def _scatter(D: int, N: int, K: int, dtype: torch.dtype):
    grad, index = meta(24, K, D, dtype=dtype), meta(24, K, dtype=I64)
    return lambda: gather_tokens.scatter_tokens(grad, index, N, "triton")


def _loss(kind: str, pred: torch.dtype, target: torch.dtype, D: int, normalize=True, weighted=False):
    scale = meta(24, 1568, dtype=torch.float16) if target == I8 else None
    arguments = meta(24, 1176, D, dtype=pred), meta(24, 1568, D, dtype=target), scale, meta(24, 1176, dtype=I64)
    weight = meta(24, 1176) if weighted else None
    return lambda: masked_latent_loss.masked_latent_loss(*arguments, weight, kind, normalize, True, "triton")


def _scale(dtype: torch.dtype):
    grad, upstream = meta(24, 1176, 768, dtype=dtype), meta()
    return lambda: masked_latent_loss.scale_gradient(grad, upstream, 1.0, "triton")


def _tubelets(patch: int, picked: int | None):
    clip = meta(24, 16, 224, 224, 3, dtype=torch.uint8)
    index = None if picked is None else meta(24, picked, dtype=I64)
    half = [0.5, 0.5, 0.5]
    return lambda: gather_tubelets.gather_tubelets(clip, index, 2, patch, half, half, BF16, "triton")


def _masks(spec: MaskSpec, grid: tuple[int, int, int], masked: int, visible: int):
    ids, plan = meta(32, dtype=I64), spec.plan(grid, masked, visible)
    return lambda: multiblock_mask.multiblock_mask(ids, plan, 0, 7, "triton")


def _glimpse(frames: torch.dtype, out: torch.dtype, padding: str):
    pixels = meta(8, 16, 512, 512, 3, dtype=frames)
    gaze = meta(8, 16, 4, 2), meta(8, 16, 4)
    options = 96, 3, 2.0, [0.5] * 3, [0.2] * 3, padding, True
    return lambda: foveated_glimpse.foveated_glimpse(pixels, *gaze, *options, out, "triton")


def _glimpse_backward(pass_: str, frames: torch.dtype, out: torch.dtype, padding: str):
    grad = meta(8, 16, 4, 3, 3, 96, 96, dtype=out)
    pixels = meta(8, 16, 512, 512, 3, dtype=frames)
    gaze = meta(8, 16, 4, 2), meta(8, 16, 4)
    options = 96, 3, 2.0, [0.5] * 3, [0.2] * 3, padding, True
    launch = getattr(foveated_glimpse, f"foveated_glimpse_{pass_}_grad")
    return lambda: launch(grad, pixels, *gaze, *options, "triton")


def _attend(queries: int, dim: int, dtype: torch.dtype, heads=12, tokens=257):
    query = meta(128, 1, heads, queries, dim, dtype=dtype)
    key, value = (meta(128, tokens, heads, dim, dtype=dtype).transpose(1, 2) for _ in range(2))
    return lambda: query_attend.query_attend(query, key, value, dim**-0.5, True, True, "triton")


def _attend_backward(queries: int, dim: int, dtype: torch.dtype, heads=12, tokens=257):
    query = meta(128, 1, heads, queries, dim, dtype=dtype)
    key, value = (meta(128, tokens, heads, dim, dtype=dtype).transpose(1, 2) for _ in range(2))
    row = meta(128, 1, heads, queries)
    arguments = (query, row, query, key, value, meta(*query.shape), row, row, dim**-0.5, True, True, True, "triton")
    return lambda: query_attend.query_attend_backward(*arguments)


WORKLOADS: dict[str, Callable[[], Callable[[], object]]] = {
    "gather_tokens ViT-B bf16": lambda: _gather(768, 1568, 1176, BF16),
    "gather_tokens ViT-L fp32": lambda: _gather(1024, 2048, 880, F32),
    "scatter_tokens ViT-B bf16": lambda: _scatter(768, 1568, 1176, BF16),
    "gather_tubelets visible": lambda: _tubelets(16, 392),
    "gather_tubelets all": lambda: _tubelets(16, None),
    "gather_tubelets patch 14": lambda: _tubelets(14, 392),
    "masked_latent_loss mse bf16": lambda: _loss("mse", BF16, BF16, 768),
    "masked_latent_loss l1 fp32 on bf16": lambda: _loss("l1", F32, BF16, 1024),
    "masked_latent_loss smooth_l1 bf16 on int8": lambda: _loss("smooth_l1", BF16, I8, 1024),
    "masked_latent_loss cosine fp32": lambda: _loss("cosine", F32, F32, 768, normalize=False),
    "masked_latent_loss l1 weighted": lambda: _loss("l1", BF16, BF16, 768, weighted=True),
    "masked_latent_loss mse 8192 wide": lambda: _loss("mse", BF16, BF16, 8192),
    "scale_gradient bf16": lambda: _scale(BF16),
    "foveated_glimpse uint8": lambda: _glimpse(torch.uint8, BF16, "border"),
    "foveated_glimpse fp32, zeros": lambda: _glimpse(F32, F32, "zeros"),
    "foveated_glimpse_gaze_grad uint8": lambda: _glimpse_backward("gaze", torch.uint8, BF16, "border"),
    "foveated_glimpse_gaze_grad fp32, zeros": lambda: _glimpse_backward("gaze", F32, F32, "zeros"),
    "foveated_glimpse_frames_grad bf16": lambda: _glimpse_backward("frames", BF16, BF16, "border"),
    "query_attend 1 of 64 bf16": lambda: _attend(1, 64, BF16),
    "query_attend 16 of 64 bf16": lambda: _attend(16, 64, BF16),
    "query_attend 1 of 128 bf16": lambda: _attend(1, 128, BF16),
    "query_attend 1 of 64 fp32": lambda: _attend(1, 64, F32),
    "query_attend 16 of 64 fp32": lambda: _attend(16, 64, F32),
    "query_attend_backward 1 of 64 bf16": lambda: _attend_backward(1, 64, BF16),
    "query_attend_backward 16 of 64 bf16": lambda: _attend_backward(16, 64, BF16),
    "query_attend_backward 1 of 64 fp32": lambda: _attend_backward(1, 64, F32),
    "multiblock_mask multiblock": lambda: _masks(MaskSpec.multiblock(), (8, 14, 14), 1176, 392),
    "multiblock_mask salt": lambda: _masks(MaskSpec.salt(), (8, 14, 14), 1176, 392),
    "multiblock_mask vjepa_short": lambda: _masks(MaskSpec.vjepa_short(), (8, 16, 16), 960, 500),
    "multiblock_mask tube": lambda: _masks(MaskSpec.tube(), (8, 14, 14), 1176, 392),
}
