"""Frozen features of labelled videos, from deterministic views."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fastvid.command import UserError
from fastvid.data import Batch


@dataclass(frozen=True)
class ProbeEntry:
    """An encoder under test.

    Attributes:
        name: in tables.
        encoder: uint8 [B, T, H, W, 3] -> [B, N, D].
        grid: its (T', H', W').
        still: it is shown the middle frame all through the clip: what a single frame tells.
    """

    name: str
    encoder: nn.Module
    grid: tuple[int, int, int]
    still: bool = False


@dataclass
class Features:
    """The features of n videos that probes are fitted and tested on.

    Attributes:
        pooled: float32 [n, T' * D]: the mean over space of each time slot's tokens, time slots side by side.
        tokens: float16 [m, N, D] with m <= n: all tokens of the first m videos that fit the memory given.
        labels: int64 [n].
    """

    pooled: torch.Tensor
    tokens: torch.Tensor
    labels: torch.Tensor


@torch.no_grad()
def extract(
    entries: Sequence[ProbeEntry],
    batches: Iterable[Batch],
    classes: Sequence[str],
    *,
    device: torch.device,
    token_bytes: int = 2 << 30,
    check: Callable[[], None] = lambda: None,
) -> list[Features]:
    """Run encoders over views of labelled videos, which are decoded once for all of them.

    Args:
        entries: the encoders, on ``device``; they are put into eval mode.
        batches: one view of each video, as :func:`fastvid.data.eval_batches` makes them; all must have a label.
        classes: label names; a class id is a position here.
        device: where the encoders run.
        token_bytes: memory for all entries' ``tokens``; pooled features are kept for all videos.
        check: called between batches; may raise to stop.

    Returns:
        One :class:`Features` per contestant.

    Raises:
        ValueError: none of the videos could be decoded.
    """
    ids = {name: i for i, name in enumerate(classes)}
    pooled: list[list[torch.Tensor]] = [[] for _ in entries]
    tokens: list[list[torch.Tensor]] = [[] for _ in entries]
    labels: list[int] = []
    room = token_bytes
    for who in entries:
        who.encoder.eval()
    for part in batches:
        check()
        assert part.clips is not None
        clips = part.clips.to(device)
        still = clips[:, clips.shape[1] // 2, None].expand_as(clips)
        narrow = []
        for i, who in enumerate(entries):
            z = who.encoder(still if who.still else clips).float()  # [B, N, D]
            pooled[i].append(z.unflatten(1, (who.grid[0], -1)).mean(2).flatten(1).cpu())
            narrow.append(z.half().cpu())
        room -= sum(z.nbytes for z in narrow)
        if room >= 0:
            for kept, z in zip(tokens, narrow, strict=True):
                kept.append(z)
        labels += [ids[label or ""] for label in part.labels]
    if not labels:
        raise UserError("no labelled video could be decoded, so there is nothing to probe")
    return [
        Features(torch.cat(p), torch.cat(t) if t else torch.empty(0, 0, 0), torch.tensor(labels))
        for p, t in zip(pooled, tokens, strict=True)
    ]
