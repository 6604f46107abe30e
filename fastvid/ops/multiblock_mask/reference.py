"""The definition of the mask sampler in plain PyTorch, for a whole batch at a time.

Integers only; ``csrc/multiblock_mask.h`` holds the same arithmetic for the kernels, and the results are equal bit for
bit. Random words come from Philox with key = seed and counter = (stream << 28 | index, draw, sample id).
"""

from types import SimpleNamespace

import torch

from fastvid.ops.multiblock_mask.spec import PLAN_FIELDS
from fastvid.random import bounded, philox4x32, split64

MAX_BLOCKS = 512  # then the rest is met with random tokens; reached only when nearly everything is to be masked
_BLOCKS, _TUBE, _RANDOM = range(3)
_TRIM, _TRUNCATE, _TOKENS = range(3)
_STREAM_COUNT, _STREAM_SIZE, _STREAM_PLACE, _STREAM_TOKEN = range(4)


def multiblock_mask(ids: torch.Tensor, plan: list[int], seed: int, draw: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Map ids int64 [B] to (visible [B, V], masked [B, M]), both int64 and ascending."""
    p = SimpleNamespace(**dict(zip(PLAN_FIELDS, plan, strict=True)))
    rng = SampleWords(ids, seed, draw)
    repeats = p.T if p.kind == _TUBE else 1  # a tube's site is masked at every time step
    cells = p.T * p.H * p.W // repeats
    want_masked, want_visible = p.masked // repeats, p.visible // repeats
    keys = rng.token_keys(cells)
    everything = torch.ones(len(ids), cells, dtype=torch.bool, device=ids.device)
    if p.kind == _BLOCKS:
        blocked = draw_blocks(p, rng)
        covered = blocked.sum(1, keepdim=True)
        blocked = blocked | _lowest(keys, ~blocked, (want_masked - covered).clamp(min=0))
        masked = _choose(keys, blocked, want_masked, bool(p.tail))
        if p.fill == _TOKENS:
            blocked = masked
    else:
        masked = blocked = _lowest(keys, everything, want_masked)
    visible = _choose(keys, ~blocked, want_visible, bool(p.tail))
    return _indices(visible, repeats, want_visible), _indices(masked, repeats, want_masked)


class SampleWords:
    """The random words of each sample of a batch."""

    def __init__(self, ids: torch.Tensor, seed: int, draw: int):
        self.ids, self.key, self.draw = ids, split64(seed), draw

    def words(self, stream: int, index: torch.Tensor | int) -> tuple[torch.Tensor, ...]:
        """Return four random words [B] for one index per sample, or [B, K] for an index tensor [K]."""
        ids = self.ids if isinstance(index, int) else self.ids[:, None]
        return philox4x32(((stream << 28) | index, self.draw, *split64(ids)), self.key)

    def token_keys(self, cells: int) -> torch.Tensor:
        """Return [B, cells]: key << 28 | cell, unique, ordered by random key and then by position."""
        group = torch.arange((cells + 3) // 4, device=self.ids.device)
        words = torch.stack(self.words(_STREAM_TOKEN, group), dim=2).flatten(1)[:, :cells]
        return (words << 28) | torch.arange(cells, device=self.ids.device)


def draw_blocks(p: SimpleNamespace, rng: SampleWords) -> torch.Tensor:
    """Return bool [B, N]: the tokens that the blocks cover once the plan's stopping rule holds."""
    tokens = p.T * p.H * p.W
    room = {_TRIM: p.masked, _TRUNCATE: tokens - p.visible, _TOKENS: tokens}[p.fill]
    if p.fill == _TRIM:
        wanted = torch.zeros_like(rng.ids)
    else:
        wanted = p.count_lo + bounded(rng.words(_STREAM_COUNT, 0)[0], p.count_hi - p.count_lo + 1)
    blocked = torch.zeros(len(rng.ids), tokens, dtype=torch.bool, device=rng.ids.device)
    for b in range(MAX_BLOCKS):
        covered = blocked.sum(1)
        enough = torch.full_like(covered, p.fill == _TOKENS, dtype=torch.bool) | (covered >= p.masked)
        stopped = ((b >= wanted) & enough) | (covered >= room)
        if bool(stopped.all()):
            break
        inside, order = _block(p, rng, b)
        fresh = inside & ~blocked & ~stopped[:, None]
        keep = torch.minimum(fresh.sum(1), room - covered)
        blocked = blocked | _lowest(order, fresh, keep[:, None])
    return blocked


def _block(p: SimpleNamespace, rng: SampleWords, b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return block b of each sample: its tokens, bool [B, N], and the order in which to trim them, int64 [B, N]."""
    size, place = rng.words(_STREAM_SIZE, 0 if p.same_size else b), rng.words(_STREAM_PLACE, b)
    bt = _share(p.T, _between(size[0], p.t_lo, p.t_hi))
    if p.by_area:
        area = _share(p.H * p.W, _between(size[1], p.area_lo, p.area_hi))
        aspect = _between(size[2], p.aspect_lo, p.aspect_hi)
        bh = _round_sqrt_ratio(area * aspect, torch.full_like(aspect, 65536), p.H)
        bw = _round_sqrt_ratio(area * 65536, aspect, p.W)
    else:
        bh = _share(p.H, _between(size[1], p.h_lo, p.h_hi))
        bw = _share(p.W, _between(size[2], p.w_lo, p.w_hi))
    t = _grid_axis(p, 0, rng) - bounded(place[0], p.T - bt + 1)[:, None]  # [B, N], relative to the block
    h = _grid_axis(p, 1, rng) - bounded(place[1], p.H - bh + 1)[:, None]
    w = _grid_axis(p, 2, rng) - bounded(place[2], p.W - bw + 1)[:, None]
    bt, bh, bw, order = bt[:, None], bh[:, None], bw[:, None], place[3][:, None]
    inside = (t >= 0) & (t < bt) & (h >= 0) & (h < bh) & (w >= 0) & (w < bw)
    h = torch.where(order & 2 > 0, bh - 1 - h, h)
    w = torch.where(order & 4 > 0, bw - 1 - w, w)
    t = torch.where(order & 8 > 0, bt - 1 - t, t)
    # Rows (or columns) of whole tubes from a random side: what is kept is a smaller block.
    rank = torch.where(order & 1 > 0, h * bw + w, w * bh + h) * bt + t
    return inside, rank


def _grid_axis(p: SimpleNamespace, axis: int, rng: SampleWords) -> torch.Tensor:
    token = torch.arange(p.T * p.H * p.W, device=rng.ids.device)
    place: tuple[torch.Tensor, ...] = (token // (p.H * p.W), token // p.W % p.H, token % p.W)
    return place[axis]


def _between(word: torch.Tensor, low: int, high: int) -> torch.Tensor:
    return low + ((word * (high - low)) >> 32)


def _share(extent: int, share: torch.Tensor) -> torch.Tensor:
    return ((extent * share) >> 24).clamp(min=1)


def _round_sqrt_ratio(num: torch.Tensor, den: torch.Tensor, limit: int) -> torch.Tensor:
    """Return round(sqrt(num / den)) clamped to [1, limit]: the largest k with (2k - 1)^2 den <= 4 num."""
    odd = 2 * torch.arange(1, limit + 1, device=num.device) - 1
    return (odd**2 * den[:, None] <= 4 * num[:, None]).sum(1).clamp(min=1)


def _lowest(keys: torch.Tensor, candidates: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
    """Return bool [B, N]: per sample the ``count`` candidates of lowest key; equal keys go by position."""
    ordered = torch.where(candidates, keys, torch.iinfo(torch.int64).max).argsort(dim=1, stable=True)
    rank = ordered.argsort(dim=1)
    return candidates & (rank < count)


def _choose(keys: torch.Tensor, candidates: torch.Tensor, count: int, tail: bool) -> torch.Tensor:
    """Return ``count`` candidates: the first in token order, or those of lowest random key."""
    if tail:
        return candidates & (candidates.cumsum(1) <= count)
    return _lowest(keys, candidates, count)


def _indices(chosen: torch.Tensor, repeats: int, count: int) -> torch.Tensor:
    """Map bool [B, cells] with ``count`` ones a row to their positions, repeated at every time slot for tubes."""
    cells = chosen.shape[1]
    sites = (~chosen).long().argsort(dim=1, stable=True)[:, :count]
    slots = cells * torch.arange(repeats, device=chosen.device)
    return (slots[None, :, None] + sites[:, None, :]).flatten(1)
