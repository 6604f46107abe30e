"""Weight initialisation of transformers."""

from typing import Literal

import torch
from torch import nn

Init = Literal["xavier", "mimetic"]

# Xavier's spread over the whole [3 D, D] qkv matrix is small; this brings a token's attention to itself to the strength
# that mimetic initialisation aims for.
_TIED_SCALE = 1.5


def init_weights(module: nn.Module, init: Init = "xavier") -> None:
    """Initialise every submodule in place.

    ``xavier`` is MAE's (arXiv 2111.06377): Xavier-uniform matrices (a patch embedding counts as one), zero biases.
    ``mimetic`` then makes the query and key weights of each attention equal, so that tokens attend at first to
    tokens like themselves; it is the query-key half of mimetic initialisation (Trockman and Kolter, arXiv 2305.09828)
    and lets small models on small data leave their first plateau sooner.

    Args:
        module: an encoder or a predictor.
        init: ``xavier`` or ``mimetic``.

    Raises:
        ValueError: ``init`` is neither.
    """
    if init not in ("xavier", "mimetic"):
        raise ValueError(f"init must be xavier or mimetic; got {init!r}")
    module.apply(_xavier)
    if init == "mimetic":
        module.apply(_tie_query_and_key)


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv3d):
        nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def _tie_query_and_key(module: nn.Module) -> None:
    from timm.layers import Attention  # seconds, and the options of a run, which have Init's type, are read without it

    from fastvid.nn.cross_block import CrossBlock

    if isinstance(module, Attention):
        with torch.no_grad():
            query, key, _ = module.qkv.weight.chunk(3)
            query *= _TIED_SCALE
            key.copy_(query)
    elif isinstance(module, CrossBlock):
        with torch.no_grad():
            module.query.weight *= _TIED_SCALE
            module.key_value.weight.chunk(2)[0].copy_(module.query.weight)
