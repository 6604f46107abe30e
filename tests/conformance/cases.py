"""Every op as functions of (stored dtype, compute dtype, backend, device), for the conformance suite.

Inputs are drawn in float32, rounded to the stored dtype and widened to the compute dtype: the float64 gold sees exactly
the numbers that a kernel sees. A case returns its results and gradients by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import pytest
import torch

from fastvid.ops import (
    foveated_glimpse,
    gather_tokens,
    gather_tubelets,
    masked_latent_loss,
    quantize_tokens,
    query_attend,
)
from fastvid.ops._dispatch import Backend
from fastvid.ops.masked_latent_loss.op import Kind


@dataclass(frozen=True)
class How:
    """Where and in what a case runs."""

    stored: torch.dtype
    compute: torch.dtype
    backend: Backend
    device: str

    def floats(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.stored).to(self.compute).to(self.device)

    def leaf(self, x: torch.Tensor, far_along: int | None = None) -> torch.Tensor:
        return self.placed(self.floats(x), far_along).requires_grad_()

    def placed(self, x: torch.Tensor, far_along: int | None) -> torch.Tensor:
        """``x`` where offsets along a dimension go beyond 2**31, if one is given; the gold has no use for it."""
        return x if far_along is None or self.compute == torch.float64 else far(x, far_along)


def far(x: torch.Tensor, dim: int) -> torch.Tensor:
    """The same numbers in memory where those along ``dim``, three or more, are so far apart that the last offset is
    beyond 2**31 elements, though the stride is not. On a CPU, memory that nobody touches is not there.
    """
    assert x.shape[dim] > 2
    step = -(-(2**31 + 64) // (x.shape[dim] - 1))
    strides = list(x.select(dim, 0).contiguous().stride())
    strides.insert(dim, step)
    size = step * (x.shape[dim] - 1) + x.select(dim, 0).numel()
    if x.is_cuda:
        torch.cuda.empty_cache()  # what the allocator keeps is not free to the driver
        if torch.cuda.mem_get_info(x.device)[0] < 1.1 * size * x.element_size():
            pytest.skip(f"needs {size * x.element_size() / 1e9:.1f} GB more of GPU memory")
    return torch.empty(size, dtype=x.dtype, device=x.device).as_strided(x.shape, strides).copy_(x)


Results = dict[str, torch.Tensor]
CASES: dict[str, Callable[[How], Results]] = {}


def case(name: str):
    """Adds a case; its name begins with the op's."""

    def add(function: Callable[[How], Results]):
        CASES[name] = function
        return function

    return add


def _gradient(leaf: torch.Tensor) -> torch.Tensor:
    assert leaf.grad is not None
    return leaf.grad


def index(B: int, N: int, K: int) -> torch.Tensor:
    return torch.stack([torch.randperm(N)[:K].sort().values for _ in range(B)])


def _loss(kind: Kind, normalize: bool, shape: tuple[int, ...], target: str = "same", weighted: bool = False):
    how_long = f"{'x'.join(map(str, shape))}{' weighted' if weighted else ''}"

    @case(f"masked_latent_loss {kind}{' normalized' if normalize else ''} {how_long} {target} target")
    def run(how: How) -> Results:
        B, M, N, D = shape
        beyond = 0 if target.startswith("far") else None
        pred = how.leaf(torch.randn(B, M, D), beyond)
        teacher = torch.randn(B, N, D) * 2 + 1
        scale = None
        if target.endswith("int8"):
            latents, scale = quantize_tokens(teacher)
            scale = scale.to(how.device)
            if how.compute == torch.float64:  # the gold knows no int8: it gets the numbers that they stand for
                latents, scale = latents.double() * scale.double().cpu().unsqueeze(-1), None
            latents = how.placed(latents.to(how.device), beyond)
        elif target == "strided":
            latents = how.floats(torch.randn(B, 2 * N, D + 8))[:, ::2, :D]
        else:
            latents = how.placed(how.floats(teacher), beyond)
        weight = None
        if weighted:  # over two orders of magnitude, and none
            weight = (10 ** torch.empty(B, M).uniform_(-1, 1)).masked_fill(torch.arange(M) == M // 2, 0)
            weight = weight.to(how.device, torch.float64 if how.compute == torch.float64 else torch.float32)
        loss = masked_latent_loss(
            pred, latents, index(B, N, M).to(how.device), kind=kind, normalize_target=normalize, target_scale=scale,
            weight=weight, backend=how.backend,
        )  # fmt: skip
        (loss * 0.7).backward()
        return {"loss": loss.detach(), "grad": _gradient(pred)}


for _kind in get_args(Kind):
    for _normalize in (False, True):
        _loss(_kind, _normalize, (2, 5, 9, 200))
for _kind in get_args(Kind):
    _loss(_kind, True, (3, 20, 25, 130), weighted=True)
_loss("l1", False, (2, 5, 8, 48), "int8", weighted=True)
_loss("mse", True, (2, 6, 12, 64), "int8")
_loss("l1", False, (3, 2, 4, 33), "int8")
_loss("smooth_l1", True, (2, 5, 8, 96), "strided")
_loss("mse", True, (1, 1, 1, 1))
_loss("cosine", False, (1, 2, 3, 1030))
_loss("mse", True, (3, 2, 5, 40), "far")
_loss("l1", False, (3, 2, 5, 40), "far int8")


def _tubelets(name: str, clip_shape, picked, tubelet, patch, strided=False, far_along=None, aside=0):
    @case(f"gather_tubelets {name}")
    def run(how: How) -> Results:
        B, T, H, W = clip_shape
        clip = torch.randint(256, (B, 2 * T, H, W + 8, 3) if strided else (B, T, H, W, 3), dtype=torch.uint8)
        if strided:
            clip = clip[:, ::2, :, 8:]
        tokens = (T // tubelet) * (H // patch) * (W // patch)
        which = None if picked is None else index(B, tokens, picked).to(how.device)
        dtype = how.compute if how.compute == torch.float64 else how.stored
        clip = how.placed(clip.to(how.device), far_along)
        if aside:  # within rows that are so many pixels longer
            clip = torch.nn.functional.pad(clip, (0, 0, aside, 0))[:, :, :, aside:]
        out = gather_tubelets(clip, which, tubelet=tubelet, patch=patch, dtype=dtype, backend=how.backend)
        return {"tokens": out}


_tubelets("16 x 16 x 2", (2, 4, 32, 48), 5, 2, 16)
_tubelets("all", (2, 2, 32, 32), None, 2, 16)
_tubelets("odd patch, one frame", (2, 3, 15, 20), 7, 1, 5)
_tubelets("patch 14, strided clip", (1, 4, 28, 42), 6, 2, 14, strided=True)
_tubelets("unaligned rows", (2, 2, 32, 32), 3, 2, 16, aside=1)
_tubelets("rows aligned to two bytes", (2, 2, 32, 32), 3, 2, 16, aside=2)
for _dim, _what in enumerate(("clips", "frames", "rows")):
    _tubelets(f"far {_what}", (3, 4, 8, 12), 5, 2, 4, far_along=_dim)


def _tokens(name: str, shape, picked, strided=False, far_along=None):
    @case(f"gather_tokens {name}")
    def run(how: How) -> Results:
        B, N, D = shape
        x = torch.randn(B, 2 * N, D + 3)[:, ::2, :D] if strided else torch.randn(B, N, D)
        x = how.leaf(x, far_along)
        out = gather_tokens(x, index(B, N, picked).to(how.device), backend=how.backend)
        out.backward(how.placed(how.floats(torch.randn(out.shape)), far_along))
        return {"out": out.detach(), "grad": _gradient(x)}


_tokens("768 wide", (2, 40, 768), 23)
_tokens("odd", (3, 37, 5), 11)
_tokens("strided", (2, 9, 130), 9, strided=True)
_tokens("none", (2, 5, 16), 0)
_tokens("far clips", (3, 6, 20), 4, far_along=0)
_tokens("far rows", (3, 6, 20), 4, far_along=1)


def _attend(name: str, shape, tokens: int, stats=True, far_along=None):
    @case(f"query_attend {name}")
    def run(how: How) -> Results:
        B, h, d = shape[0], shape[-3], shape[-1]
        shapes = (shape, (B, h, tokens, d), (B, h, tokens, d))
        query, key, value = leaves = [how.leaf(torch.randn(shape), far_along) for shape in shapes]
        entropy = None
        if stats:
            out, entropy, _ = query_attend(query, key, value, return_stats=True, backend=how.backend)
        else:
            out = query_attend(query, key, value, backend=how.backend)
        wanted = {out: how.placed(how.floats(torch.randn(out.shape)), far_along)}
        if entropy is not None:
            wanted[entropy] = torch.linspace(-1, 1, entropy.numel()).view(entropy.shape).to(entropy)
        torch.autograd.backward(tuple(wanted), tuple(wanted.values()))
        results = {
            "out": out.detach(),
            **dict(zip(("query", "key", "value"), (_gradient(x) for x in leaves), strict=True)),
        }
        return results if entropy is None else {**results, "entropy": entropy.detach()}


_attend("one query, 257 tokens", (2, 2, 1, 64), 257)
_attend("without statistics", (1, 2, 3, 32), 70, stats=False)
_attend("two sets of eight", (1, 2, 2, 8, 48), 33)
for _dim, _what in enumerate(("clips", "heads", "tokens")):
    _attend(f"far {_what}", (3, 3, 3, 16), 21, far_along=_dim)


def _glimpse(name: str, shape, gazes: int, size: int, levels: int, floats=False, far_along=None, **options):
    @case(f"foveated_glimpse {name}")
    def run(how: How) -> Results:
        B, T, H, W = shape
        pixels = torch.randint(256, (B, T, H, W, 3), dtype=torch.uint8)
        frames = how.leaf(pixels / 255, far_along) if floats else how.placed(pixels.to(how.device), far_along)
        wide = torch.float64 if how.compute == torch.float64 else torch.float32
        center = (1.6 * torch.rand(B, T, gazes, 2) - 0.8).to(how.device, wide).requires_grad_()
        scale = (0.1 + 0.3 * torch.rand(B, T, gazes)).to(how.device, wide).requires_grad_()
        dtype = how.compute if how.compute == torch.float64 else how.stored
        out = foveated_glimpse(
            frames, center, scale, size=size, levels=levels, dtype=dtype, backend=how.backend, **options
        )
        out.backward(how.floats(torch.randn(out.shape)).to(dtype))
        results = {"glimpses": out.detach(), "center": _gradient(center), "scale": _gradient(scale)}
        return {**results, "frames": _gradient(frames)} if floats else results


# Gazes enough that the error of their gradients is no matter of luck.
_glimpse("three levels of pixels", (1, 2, 33, 42), 6, 8, 3)
_glimpse("zeros outside, no antialias", (2, 2, 23, 15), 3, 6, 2, padding="zeros", antialias=False)
_glimpse("float frames", (1, 1, 17, 21), 12, 6, 2, floats=True, level_ratio=1.5)
for _dim, _what in enumerate(("clips", "frames", "rows")):
    _glimpse(f"far {_what}", (3, 3, 12, 15), 1, 4, 1, far_along=_dim)
