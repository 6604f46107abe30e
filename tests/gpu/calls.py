"""One call of every op, forward and backward, with its inputs made beforehand on the device that is asked for."""

from collections.abc import Callable

import torch

from fastvid.ops import (
    MaskSpec,
    foveated_glimpse,
    gather_tokens,
    gather_tubelets,
    masked_latent_loss,
    multiblock_mask,
    quantize_tokens,
    query_attend,
)
from fastvid.ops._dispatch import Backend

B, N, K, D = 4, 196, 49, 192

Call = Callable[[], tuple[torch.Tensor, ...]]


def _index(device: str) -> torch.Tensor:
    return torch.stack([torch.randperm(N)[:K].sort().values for _ in range(B)]).to(device)


def _with_grad(function: Callable[..., torch.Tensor], *leaves: torch.Tensor) -> Call:
    """Calls function on leaves; returns its result and their gradients."""
    leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
    upstream = torch.randn_like(function(*leaves))

    def call():
        out = function(*leaves)
        return out.detach(), *torch.autograd.grad(out, leaves, upstream)

    return call


def gather(dtype: torch.dtype, device: str) -> Call:
    index = _index(device)
    return _with_grad(lambda x: gather_tokens(x, index), torch.randn(B, N, D, device=device, dtype=dtype))


def tubelets(dtype: torch.dtype, device: str) -> Call:
    clip = torch.randint(256, (B, 2, 224, 224, 3), dtype=torch.uint8, device=device)
    index = _index(device)
    return lambda: (gather_tubelets(clip, index, dtype=dtype),)


def loss(dtype: torch.dtype, device: str) -> Call:
    index, target = _index(device), torch.randn(B, N, D, device=device, dtype=dtype)
    return _with_grad(
        lambda pred: masked_latent_loss(pred, target, index, kind="smooth_l1", normalize_target=True),
        torch.randn(B, K, D, device=device, dtype=dtype),
    )


def loss_weighted(dtype: torch.dtype, device: str) -> Call:
    index, target = _index(device), torch.randn(B, N, D, device=device, dtype=dtype)
    weight = torch.rand(B, K, device=device)
    return _with_grad(
        lambda pred: masked_latent_loss(pred, target, index, kind="l1", weight=weight),
        torch.randn(B, K, D, device=device, dtype=dtype),
    )


def loss_of_int8(dtype: torch.dtype, device: str) -> Call:
    index = _index(device)
    target, scale = quantize_tokens(torch.randn(B, N, D, device=device))
    return _with_grad(
        lambda pred: masked_latent_loss(pred, target, index, target_scale=scale),
        torch.randn(B, K, D, device=device, dtype=dtype),
    )


def attend(dtype: torch.dtype, device: str) -> Call:
    query, key, value = (torch.randn(B, 3, n, 64, device=device, dtype=dtype) for n in (2, N, N))

    def both(*tensors: torch.Tensor) -> torch.Tensor:
        out, entropy, _ = query_attend(*tensors, return_stats=True)
        return out + entropy.unsqueeze(-1).to(out.dtype)

    return _with_grad(both, query, key, value)


def _glimpses(backend: Backend) -> Callable[[torch.dtype, str], Call]:
    def make(dtype: torch.dtype, device: str) -> Call:
        frames = torch.randint(256, (2, 3, 120, 160, 3), dtype=torch.uint8, device=device)
        center, scale = torch.rand(2, 3, 2, 2, device=device) - 0.5, 0.1 + 0.2 * torch.rand(2, 3, 2, device=device)
        return _with_grad(
            lambda c, s: foveated_glimpse(frames, c, s, size=24, levels=3, dtype=dtype, backend=backend), center, scale
        )

    return make


def glimpses_of_floats(dtype: torch.dtype, device: str) -> Call:
    center, scale = torch.rand(2, 3, 2, 2, device=device) - 0.5, 0.1 + 0.2 * torch.rand(2, 3, 2, device=device)
    frames = torch.rand(2, 3, 60, 80, 3, device=device, dtype=dtype)
    return _with_grad(lambda x: foveated_glimpse(x, center, scale, size=24, levels=2, dtype=dtype), frames)


def _masks(backend: Backend) -> Callable[[torch.dtype, str], Call]:
    def make(dtype: torch.dtype, device: str) -> Call:
        ids = torch.arange(32, device=device)
        return lambda: multiblock_mask(
            ids, (8, 14, 14), masked=1176, visible=392, spec=MaskSpec.salt(), seed=0, draw=3, backend=backend
        )

    return make


CALLS: dict[str, Callable[[torch.dtype, str], Call]] = {
    "gather_tokens": gather,
    "gather_tubelets": tubelets,
    "masked_latent_loss": loss,
    "masked_latent_loss of int8": loss_of_int8,
    "masked_latent_loss weighted": loss_weighted,
    "query_attend": attend,
    "foveated_glimpse in Triton": _glimpses("triton"),
    "foveated_glimpse in CUDA": _glimpses("native"),
    "foveated_glimpse of floats": glimpses_of_floats,
    "multiblock_mask in Triton": _masks("triton"),
    "multiblock_mask in CUDA": _masks("native"),
}
