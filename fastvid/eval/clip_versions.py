"""Clips shown otherwise than they were filmed: one frame all through, backwards, or with their segments shuffled."""

import itertools
from typing import Literal

import torch

Version = Literal["static", "reversed", "shuffled"]

SEGMENTS = 3
ORDERS = tuple(itertools.permutations(range(SEGMENTS)))
"""The orders of a clip's segments; the first is the one that was filmed."""


def static(clips: torch.Tensor) -> torch.Tensor:
    """Repeat the middle frame of clips [B, T, ...] all through."""
    return clips[:, clips.shape[1] // 2, None].expand_as(clips)


def backwards(clips: torch.Tensor) -> torch.Tensor:
    """Turn the frames of clips [B, T, ...] around."""
    return clips.flip(1)


def shuffled(clips: torch.Tensor, slots: int, orders: torch.Tensor) -> torch.Tensor:
    """Put the segments of each clip into another order.

    A segment is a third of the clip's time slots (the frames of one token), rounded down. Slots that are left over stay
    where they are, at the end. All segments are equally long, so that no length tells the order.

    Args:
        clips: [B, T, ...].
        slots: T', the time slots of a clip.
        orders: int64 [B], positions in :data:`ORDERS`.

    Raises:
        ValueError: fewer than three time slots.
    """
    if slots < SEGMENTS:
        raise ValueError(f"clips of {slots} time slots cannot be cut into {SEGMENTS} segments: use longer clips")
    length = slots // SEGMENTS * (clips.shape[1] // slots)
    table = torch.tensor(ORDERS, device=clips.device)[orders.to(clips.device)]  # [B, SEGMENTS]
    frames = (table[..., None] * length + torch.arange(length, device=clips.device)).flatten(1)
    rest = torch.arange(SEGMENTS * length, clips.shape[1], device=clips.device).expand(len(clips), -1)
    frames = torch.cat([frames, rest], 1)
    return clips[torch.arange(len(clips), device=clips.device)[:, None], frames]


def show(clips: torch.Tensor, version: Version, slots: int, orders: torch.Tensor) -> torch.Tensor:
    """Return a version of clips; ``slots`` and ``orders`` as :func:`shuffled` takes them."""
    if version == "static":
        return static(clips)
    return backwards(clips) if version == "reversed" else shuffled(clips, slots, orders)
