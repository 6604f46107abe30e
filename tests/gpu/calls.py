"""One call of every op on a CUDA device, forward and backward, with its inputs made beforehand."""

from collections.abc import Callable

import torch

from fastvid.ops import MaskSpec, gather_tokens, gather_tubelets, masked_latent_loss, multiblock_mask, quantize_tokens

B, N, K, D = 4, 196, 49, 192

Call = Callable[[], tuple[torch.Tensor, ...]]


def _index() -> torch.Tensor:
    return torch.stack([torch.randperm(N)[:K].sort().values for _ in range(B)]).cuda()


def _with_grad(function: Callable[..., torch.Tensor], *leaves: torch.Tensor) -> Call:
    """Calls function on leaves; returns its result and their gradients."""
    leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
    upstream = torch.randn_like(function(*leaves))

    def call():
        out = function(*leaves)
        return out.detach(), *torch.autograd.grad(out, leaves, upstream)

    return call


def gather(dtype: torch.dtype) -> Call:
    index = _index()
    return _with_grad(lambda x: gather_tokens(x, index), torch.randn(B, N, D, device="cuda", dtype=dtype))


def tubelets(dtype: torch.dtype) -> Call:
    clip = torch.randint(256, (B, 2, 224, 224, 3), dtype=torch.uint8, device="cuda")
    index = _index()
    return lambda: (gather_tubelets(clip, index, dtype=dtype),)


def loss(dtype: torch.dtype) -> Call:
    index, target = _index(), torch.randn(B, N, D, device="cuda", dtype=dtype)
    return _with_grad(
        lambda pred: masked_latent_loss(pred, target, index, kind="smooth_l1", normalize_target=True),
        torch.randn(B, K, D, device="cuda", dtype=dtype),
    )


def loss_of_int8(dtype: torch.dtype) -> Call:
    index = _index()
    target, scale = quantize_tokens(torch.randn(B, N, D, device="cuda"))
    return _with_grad(
        lambda pred: masked_latent_loss(pred, target, index, target_scale=scale),
        torch.randn(B, K, D, device="cuda", dtype=dtype),
    )


def _masks(backend: str) -> Callable[[torch.dtype], Call]:
    def make(dtype: torch.dtype) -> Call:
        ids = torch.arange(32, device="cuda")
        return lambda: multiblock_mask(
            ids, (8, 14, 14), masked=1176, visible=392, spec=MaskSpec.salt(), seed=0, draw=3, backend=backend
        )

    return make


CALLS: dict[str, Callable[[torch.dtype], Call]] = {
    "gather_tokens": gather,
    "gather_tubelets": tubelets,
    "masked_latent_loss": loss,
    "masked_latent_loss of int8": loss_of_int8,
    "multiblock_mask in Triton": _masks("triton"),
    "multiblock_mask in CUDA": _masks("native"),
}
