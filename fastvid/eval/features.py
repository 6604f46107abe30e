"""Frozen features of labelled videos, from deterministic views."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from fastvid.command import UserError
from fastvid.data import Batch
from fastvid.eval.clip_versions import ORDERS, Version, show, static

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeEntry:
    """An encoder under test.

    Attributes:
        name: in tables.
        encoder: uint8 [B, T, H, W, 3] -> [B, N, D].
        grid: its (T', H', W').
        still: it is shown the middle frame of the clip as it was filmed, all through, in every version of the clip:
            what a single frame tells.
    """

    name: str
    encoder: nn.Module
    grid: tuple[int, int, int]
    still: bool = False


@dataclass
class Features:
    """The features of n videos that probes are fitted and tested on. The V views of a video are side by side.

    Attributes:
        pooled: float32 [n * V, T' * D]: the mean over space of each time slot's tokens, time slots side by side.
        tokens: float16 [m * V, N, D] with m <= n: all tokens of the first m videos that fit the memory given.
        labels: int64 [n], -1 for a video without a label.
        views: V, the views of each video.
        keys: keys of the videos, n.
        orders: int64 [n], positions in :data:`fastvid.eval.clip_versions.ORDERS`: how "shuffled" shows each video.
        versions: pooled features of the views of the first videos, shown otherwise, by the version's name.
    """

    pooled: torch.Tensor
    tokens: torch.Tensor
    labels: torch.Tensor
    views: int = 1
    keys: Sequence[str] = ()
    orders: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    versions: dict[str, torch.Tensor] = field(default_factory=dict)

    def select(self, rows: torch.Tensor) -> "Features":
        """Return the features of some videos, int64 [k] in ascending order."""
        of_view = self.view_rows(rows)
        stored = of_view[of_view < len(self.tokens)]
        return Features(
            self.pooled[of_view], self.tokens[stored], self.labels[rows], self.views,
            [self.keys[row] for row in rows.tolist()], self.orders[rows],
            {name: pooled[of_view[of_view < len(pooled)]] for name, pooled in self.versions.items()},
        )  # fmt: skip

    def version(self, name: Version) -> "Features":
        """Return the features of the videos that were shown otherwise, as they were shown: [k] of the first videos."""
        pooled = self.versions[name]
        k = len(pooled) // self.views
        return Features(pooled, pooled[:0], self.labels[:k], self.views, self.keys[:k], self.orders[:k])

    def view_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows of the views of videos int64 [k], int64 [k * V]."""
        return (rows[:, None] * self.views + torch.arange(self.views)).flatten()

    def with_tokens(self) -> torch.Tensor:
        """Return the labels of the videos whose tokens were kept, int64 [m]."""
        return self.labels[: len(self.tokens) // self.views]


@torch.no_grad()
def extract(
    entries: Sequence[ProbeEntry],
    batches: Iterable[Batch],
    classes: Sequence[str],
    *,
    device: torch.device,
    token_bytes: int = 2 << 30,
    views: int = 1,
    versions: Mapping[Version, int | None] | None = None,
    check: Callable[[], None] = lambda: None,
) -> list[Features]:
    """Run encoders over views of videos, which are decoded once for all of them.

    Args:
        entries: the encoders, on ``device``; they are put into eval mode.
        batches: the views of each video, as :func:`fastvid.data.eval_batches` makes them.
        classes: label names; a class id is a position here.
        device: where the encoders run.
        token_bytes: memory for all entries' ``tokens``, 0 to keep none; pooled features are kept for all videos.
        views: V, the views of each video.
        versions: ways in which views are shown once more, and of how many of the first videos each, rounded up to a
            batch; None for all.
        check: called between batches; may raise to stop.

    Returns:
        One :class:`Features` per contestant.

    Raises:
        UserError: none of the videos could be decoded.
    """
    ids: dict[str | None, int] = {name: i for i, name in enumerate(classes)}
    versions = versions or {}
    pooled: list[list[torch.Tensor]] = [[] for _ in entries]
    tokens: list[list[torch.Tensor]] = [[] for _ in entries]
    shown: list[dict[str, list[torch.Tensor]]] = [{name: [] for name in versions} for _ in entries]
    labels: list[int] = []
    keys: list[str] = []
    room, kept_videos = token_bytes, 0
    for who in entries:
        who.encoder.eval()
    for part in batches:
        check()
        assert part.clips is not None
        clips = part.clips.to(device)
        orders = _orders(len(keys), len(clips) // views).repeat_interleave(views)
        narrow = []
        for i, who in enumerate(entries):
            z = who.encoder(static(clips) if who.still else clips).float()  # [B, N, D]
            pooled[i].append(_pool(z, who))
            narrow.append(z.half().cpu() if token_bytes else z[:0])
            for name, most in versions.items():
                if most is not None and len(keys) >= most:
                    continue
                if who.still:  # one frame is the same in every version
                    shown[i][name].append(pooled[i][-1])
                else:
                    shown[i][name].append(_pool(who.encoder(show(clips, name, who.grid[0], orders)).float(), who))
        room -= sum(z.nbytes for z in narrow)
        if room >= 0 and token_bytes:
            kept_videos += len(clips) // views
            for kept, z in zip(tokens, narrow, strict=True):
                kept.append(z)
        labels += [ids.get(label, -1) for label in part.labels[::views]]
        keys += part.keys[::views]
    if not labels:
        raise UserError("no video could be decoded, so there is nothing to probe")
    if token_bytes and kept_videos < len(labels):
        log.warning(
            "the tokens of %d of %d videos fit into %.3g GB of memory: attentive probes use these alone",
            kept_videos, len(labels), token_bytes / 1e9,
        )  # fmt: skip
    return [
        Features(
            torch.cat(p), torch.cat(t) if t else torch.empty(0, 0, 0), torch.tensor(labels), views, keys,
            _orders(0, len(keys)), {name: torch.cat(parts) for name, parts in more.items()},
        )
        for p, t, more in zip(pooled, tokens, shown, strict=True)
    ]  # fmt: skip


def _pool(tokens: torch.Tensor, who: ProbeEntry) -> torch.Tensor:
    """Return the mean over space of each time slot's tokens, side by side: float32 [B, T' * D], on the CPU."""
    return tokens.unflatten(1, (who.grid[0], -1)).mean(2).flatten(1).cpu()


def _orders(start: int, count: int) -> torch.Tensor:
    """Return the orders in which ``count`` videos are shown: they take turns, so that each is as frequent."""
    return torch.arange(start, start + count) % len(ORDERS)
