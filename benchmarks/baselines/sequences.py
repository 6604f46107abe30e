"""Sequences of a language model that are joined from parts, without what is padding in them."""

from collections.abc import Iterable

import torch

Part = tuple[torch.Tensor, torch.Tensor]
"""Columns of a sequence: embeddings [R, n, W], and bool [R, n] for those that are real."""


def joined(parts: Iterable[Part]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Join the real columns of parts to rows padded on the right.

    Returns:
        Embeddings [R, L, W], and int64 [R, n] for each part: the places of its columns in them.
    """
    embeds, masks = zip(*parts, strict=True)
    whole, real = torch.cat([x.to(embeds[0].dtype) for x in embeds], 1), torch.cat(masks, 1)
    place = (real.long().cumsum(1) - 1).clamp(min=0)
    row = torch.arange(len(real), device=real.device)[:, None].expand_as(real)
    packed = whole.new_zeros(len(real), int(real.sum(1).max()), whole.shape[2])
    packed = packed.index_put((row[real], place[real]), whole[real])
    return packed, list(place.split([mask.shape[1] for mask in masks], 1))


def picked(x: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Map x [R, L, ...] at places [R, n] to [R, n, ...]."""
    return x[torch.arange(len(x), device=x.device)[:, None], place]


def last(hidden: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return the last real one of hidden states [R, P, W], [R, W]."""
    return hidden[torch.arange(len(real), device=real.device), real.shape[1] - 1 - real.flip(1).long().argmax(1)]
