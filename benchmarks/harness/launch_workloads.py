"""The launches that are tuned: each Triton kernel at the sizes of the benchmarks, most of a training step's time first.

A workload makes its inputs on a device and returns the call, which launches one or two kernels. On the meta device
nothing is computed: that is what the tests compile for architectures that are not there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from benchmarks.harness.workloads import VIT_B, VIT_L, Tokens, drawn
from fastvid.ops import MaskSpec
from fastvid.ops.foveated_glimpse import triton as foveated_glimpse
from fastvid.ops.gather_tokens import triton as gather_tokens
from fastvid.ops.gather_tubelets import triton as gather_tubelets
from fastvid.ops.masked_latent_loss import triton as masked_latent_loss
from fastvid.ops.multiblock_mask import triton as multiblock_mask
from fastvid.ops.query_attend import triton as query_attend

_HALF = [0.5, 0.5, 0.5]
_SAMPLED = 2.0, _HALF, _HALF, "border", True
_HEADS, _DIM, _TOKENS = 12, 64, 257  # of a ViT-B's keys and values over 16x16 patches and a class token


@dataclass(frozen=True)
class Place:
    """The place where a workload runs; ``tiny`` shrinks batches and tokens, not what a kernel is compiled for."""

    device: str
    tiny: bool = False

    @property
    def narrow(self) -> torch.dtype:
        """Return the dtype of activations: bfloat16, or under Triton's interpreter, which gets it wrong, another of
        two bytes.
        """
        return torch.float16 if self.device == "cpu" else torch.bfloat16

    def randn(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, device=self.device).to(self.narrow)

    def pixels(self, *shape: int) -> torch.Tensor:
        return torch.randint(256, shape, dtype=torch.uint8, device=self.device)

    def clips(self, tokens: Tokens, batch: int) -> tuple[int, int, int, int, int]:
        """Return (B, N, masked, visible, D)."""
        if self.tiny:
            return 2, 24, 18, 6, tokens.dim
        return batch, tokens.total, tokens.masked, tokens.visible, tokens.dim


class Workload(NamedTuple):
    """A size, the kernels that are tuned at it, and what makes the call that launches them."""

    size: str
    kernels: tuple[str, ...]
    make: Callable[[Place], Callable[[], object]]


def _loss(place: Place, batch: int, quantized: bool = False):
    B, N, M, _, D = place.clips(VIT_L, batch)
    pred, masked, scale = place.randn(B, M, D), drawn(B, N, M, place.device), None
    target = place.randn(B, N, D)
    if quantized:
        target = torch.randint(-127, 128, (B, N, D), dtype=torch.int8, device=place.device)
        scale = torch.rand(B, N, device=place.device).add(0.1).half()
    return lambda: masked_latent_loss.masked_latent_loss(pred, target, scale, masked, None, "l1", True, True, "triton")


def _scale(place: Place):
    B, _, M, _, D = place.clips(VIT_L, 24)
    grad, upstream = place.randn(B, M, D), torch.full((), 0.7, device=place.device)
    return lambda: masked_latent_loss.scale_gradient(grad, upstream, 1.0, "triton")


def _gather(place: Place, tokens: Tokens, batch: int):
    B, N, _, V, D = place.clips(tokens, batch)
    x, index = place.randn(B, N, D), drawn(B, N, V, place.device)
    return lambda: gather_tokens.gather_tokens(x, index, "triton")


def _scatter(place: Place, tokens: Tokens, batch: int):
    B, N, _, V, D = place.clips(tokens, batch)
    grad, index = place.randn(B, V, D), drawn(B, N, V, place.device)
    return lambda: gather_tokens.scatter_tokens(grad, index, N, "triton")


def _tubelets(place: Place):
    B, time, side, V = (1, 2, 64, 5) if place.tiny else (24, 16, 256, VIT_L.visible)
    clip = place.pixels(B, time, side, side, 3)
    index = drawn(B, time // 2 * (side // 16) ** 2, V, place.device)
    return lambda: gather_tubelets.gather_tubelets(clip, index, 2, 16, _HALF, _HALF, place.narrow, "triton")


def _keys(place: Place, queries: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make the query [B, 1, h, Q, d], and key and value [B, h, N, d] in a projection's memory layout."""
    B, H, N = (1, 2, 70) if place.tiny else (12 * 128 if queries == 1 else 128, _HEADS, _TOKENS)
    key, value = (place.randn(B, N, H, _DIM).transpose(1, 2) for _ in range(2))
    return place.randn(B, 1, H, queries, _DIM), key, value


def _attend(place: Place, queries: int):
    query, key, value = _keys(place, queries)
    return lambda: query_attend.query_attend(query, key, value, _DIM**-0.5, True, True, "triton")


def _attend_backward(place: Place, queries: int):
    query, key, value = _keys(place, queries)
    rows, narrow = query.shape[:-1], place.narrow
    out, lse = torch.zeros(query.shape, device=place.device), torch.full(rows, 8.0, device=place.device)
    if place.device != "meta":
        _, out, lse, _, _ = query_attend.query_attend(query, key, value, _DIM**-0.5, False, True, "triton")
    grad = torch.randn(query.shape, device=place.device).to(narrow)
    return lambda: query_attend.query_attend_backward(
        grad, None, query, key, value, out, lse, None, _DIM**-0.5, True, True, True, "triton"
    )


def _masks(place: Place):
    ids = torch.arange(2 if place.tiny else 32, device=place.device)
    plan = MaskSpec.multiblock().plan(VIT_B.grid, VIT_B.masked, VIT_B.visible)
    return lambda: multiblock_mask.multiblock_mask(ids, plan, 0, 7, "triton")


def _gaze(place: Place, floats: bool = False) -> tuple[torch.Tensor, ...]:
    """Make the frames, centres, scales, and a gradient of the glimpses."""
    B, time, side, G, levels, size = (1, 1, 20, 1, 1, 32) if place.tiny else (8, 16, 512, 4, 3, 96)
    frames = place.pixels(B, time, side, side, 3)
    if floats:
        frames = (frames / 255).to(place.narrow)
    center = (torch.rand(B, time, G, 2, device=place.device) - 0.5) / (10 if place.tiny else 1)
    scale = torch.full((B, time, G), 0.8 if place.tiny else size / side, device=place.device)
    return frames, center, scale, place.randn(B, time, G, levels, 3, size, size)


def _glimpse(place: Place):
    frames, center, scale, grad = _gaze(place)
    options = grad.shape[-1], grad.shape[3], *_SAMPLED
    return lambda: foveated_glimpse.foveated_glimpse(frames, center, scale, *options, place.narrow, "triton")


def _glimpse_backward(place: Place, to_frames: bool):
    frames, center, scale, grad = _gaze(place, floats=to_frames)
    options = grad.shape[-1], grad.shape[3], *_SAMPLED, "triton"
    launch = foveated_glimpse.foveated_glimpse_frames_grad if to_frames else foveated_glimpse.foveated_glimpse_gaze_grad
    return lambda: launch(grad, frames, center, scale, *options)


WORKLOADS = [
    Workload("ViT-L B24", ("masked_latent_loss_kernel", "sum_rows_kernel"), lambda place: _loss(place, 24)),
    Workload("1 query", ("query_attend_few_backward_kernel",), lambda place: _attend_backward(place, 1)),
    Workload("1 query", ("query_attend_few_kernel",), lambda place: _attend(place, 1)),
    Workload("4 queries", ("query_attend_few_backward_kernel",), lambda place: _attend_backward(place, 4)),
    Workload("4 queries", ("query_attend_few_kernel",), lambda place: _attend(place, 4)),
    Workload("ViT-L B24", ("scale_gradient_kernel",), _scale),
    Workload("ViT-L B24", ("scatter_tokens_kernel",), lambda place: _scatter(place, VIT_L, 24)),
    Workload("ViT-L B24", ("gather_tokens_kernel",), lambda place: _gather(place, VIT_L, 24)),
    Workload("ViT-L B24", ("gather_tubelets_kernel",), _tubelets),
    Workload("ViT-L B24, int8", ("masked_latent_loss_kernel",), lambda place: _loss(place, 24, quantized=True)),
    Workload("ViT-B B32", ("scatter_tokens_kernel",), lambda place: _scatter(place, VIT_B, 32)),
    Workload("ViT-B B32", ("gather_tokens_kernel",), lambda place: _gather(place, VIT_B, 32)),
    Workload("16 queries", ("query_attend_backward_kernel",), lambda place: _attend_backward(place, 16)),
    Workload("16 queries", ("query_attend_kernel",), lambda place: _attend(place, 16)),
    Workload("4 of 96px", ("foveated_glimpse_frames_kernel",), lambda place: _glimpse_backward(place, True)),
    # Of these a build with nvcc has CUDA kernels.
    Workload(
        "4 of 96px",
        ("foveated_glimpse_gaze_kernel", "foveated_glimpse_sum_kernel"),
        lambda place: _glimpse_backward(place, False),
    ),
    Workload("4 of 96px", ("foveated_glimpse_kernel",), _glimpse),
    Workload("ViT-B B32", ("multiblock_mask_kernel",), _masks),
]
KERNELS = sorted({kernel for workload in WORKLOADS for kernel in workload.kernels})
