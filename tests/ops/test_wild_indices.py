"""An index out of range is refused on a CPU whatever computes: a wrapped one would feed wrong tokens into a loss."""

import pytest
import torch

from fastvid.ops import gather_tokens, gather_tubelets, mask_distance, masked_latent_loss

CLIP = torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8)

OPS = {
    "gather_tokens": lambda index, **kw: gather_tokens(torch.randn(1, 4, 8), index, **kw),
    "gather_tokens, float64": lambda index, **kw: gather_tokens(torch.randn(1, 4, 8).double(), index),
    "gather_tubelets": lambda index, **kw: gather_tubelets(CLIP, index, patch=2, **kw),
    "mask_distance": lambda index, **kw: mask_distance(index, (1, 2, 2)),
    "masked_latent_loss": lambda index, **kw: masked_latent_loss(
        torch.randn(1, 1, 8), torch.randn(1, 4, 8), index, **kw
    ),
    "masked_latent_loss, float64": lambda index, **kw: masked_latent_loss(
        torch.randn(1, 1, 8).double(), torch.randn(1, 4, 8).double(), index
    ),
}


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("wild", [-1, 4, 1006])
def test_wild_indices_are_refused(name, backend, wild):
    OPS[name](torch.tensor([[3]]), backend=backend)
    with pytest.raises((IndexError, RuntimeError), match=f"{wild}.*out of bounds|is {wild}, outside"):
        OPS[name](torch.tensor([[wild]]), backend=backend)
