"""Frozen features of labelled videos, from deterministic views."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from fastvid.data import Quarantine, Source, eval_batches
from fastvid.video import ViewSpec


@dataclass
class Features:
    """What probes are fitted on and tested on, n videos.

    Attributes:
        pooled: float32 [n, T' * D]: the mean over space of each time slot's tokens, time slots side by side.
        tokens: float16 [m, N, D] with m <= n: all tokens of the first m videos that fit the memory given.
        labels: int64 [n].
    """

    pooled: torch.Tensor
    tokens: torch.Tensor
    labels: torch.Tensor


def extract(
    encoder: Callable[[torch.Tensor], torch.Tensor],
    grid: tuple[int, int, int],
    source: Source,
    indices: Sequence[int],
    spec: ViewSpec,
    classes: Sequence[str],
    *,
    device: torch.device,
    batch: int = 64,
    quarantine: Quarantine | None = None,
    still: bool = False,
    token_bytes: int = 2 << 30,
    check: Callable[[], None] = lambda: None,
) -> Features:
    """Runs an encoder over the centre views of labelled videos.

    Args:
        encoder: uint8 [B, T, H, W, 3] -> [B, N, D]; in eval mode.
        grid: its (T', H', W').
        source: the videos.
        indices: which of its samples; all must have a label.
        spec: what a view is.
        classes: label names; a class id is a position here.
        device: where the encoder runs.
        batch: clips per forward pass.
        quarantine: where videos that do not decode go; they are left out.
        still: show the middle frame all through the clip: what a single frame tells.
        token_bytes: memory for ``tokens``; pooled features are kept for all videos.
        check: called between batches; may raise to stop.
    """
    ids = {name: i for i, name in enumerate(classes)}
    pooled, tokens, labels, held = [], [], [], 0
    with torch.no_grad():
        for part in eval_batches(source, indices, spec, batch=batch, quarantine=quarantine or Quarantine()):
            check()
            clips = part.clips.to(device)
            if still:
                clips = clips[:, clips.shape[1] // 2, None].expand_as(clips)
            z = encoder(clips).float()  # [B, N, D]
            pooled.append(z.unflatten(1, (grid[0], -1)).mean(2).flatten(1).cpu())
            narrow = z.half().cpu()
            if held + narrow.nbytes <= token_bytes:
                tokens.append(narrow)
                held += narrow.nbytes
            labels += [ids[source.samples[i].label or ""] for i in part.indices]
    if not pooled:
        raise ValueError("no labelled video could be decoded, so there is nothing to probe")
    empty = torch.empty(0, *pooled[0].shape[1:])
    return Features(torch.cat(pooled), torch.cat(tokens) if tokens else empty, torch.tensor(labels))
