"""Triton kernel of multiblock_mask: one program draws one sample's mask, the same as reference.py bit for bit."""

import functools

import torch
import triton
import triton.language as tl

from fastvid.ops._launch import Options, choose_launch, options
from fastvid.ops.multiblock_mask.op import empty_outputs
from fastvid.ops.multiblock_mask.reference import MAX_BLOCKS
from fastvid.ops.multiblock_mask.spec import PLAN_FIELDS

# A program holds its sample's whole grid; more tokens than this do not fit in the registers of one.
MAX_CELLS = 1 << 16

_BLOCKS, _TUBE = tl.constexpr(0), tl.constexpr(1)
_TRIM, _TRUNCATE, _TOKENS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
_STREAM_COUNT, _STREAM_SIZE = tl.constexpr(0), tl.constexpr(1 << 28)
_STREAM_PLACE, _STREAM_TOKEN = tl.constexpr(2 << 28), tl.constexpr(3 << 28)
_KEY_BITS, _RANK_BITS = tl.constexpr(60), tl.constexpr(28)


@triton.jit
def _between(word, low, high):
    return low + ((word.to(tl.int64) * (high - low)) >> 32)


@triton.jit
def _bounded(word, n):
    return ((word.to(tl.int64) * n) >> 32).to(tl.int32)


@triton.jit
def _share(extent, share):
    return tl.maximum((extent * share) >> 24, 1)


@triton.jit
def _round_sqrt_ratio(num, den, limit, SIDE: tl.constexpr):
    k = 1 + tl.arange(0, SIDE).to(tl.int64)  # [SIDE]
    fits = (k <= limit) & ((2 * k - 1) * (2 * k - 1) * den <= 4 * num)
    return tl.maximum(tl.sum(fits.to(tl.int32)), 1)


@triton.jit
def _wants_a_block(b, covered, wanted, masked, room, FILL: tl.constexpr, MAX_BLOCKS: tl.constexpr):
    short = (b < wanted) if FILL == _TOKENS else (b < wanted) | (covered < masked)
    return short & (covered < room) & (b < MAX_BLOCKS)


@triton.jit
def _lowest(keys, candidates, count, BITS: tl.constexpr):
    """Return the `count` candidates of lowest key, or all if fewer. Keys are distinct and below 2**BITS - 1."""
    bound = tl.sum(keys * 0)  # a zero of the keys' type
    for bit in range(BITS):
        trial = bound | (tl.full((), 1, keys.dtype) << (BITS - 1 - bit))
        below = tl.sum((candidates & (keys < trial)).to(tl.int32))
        bound = tl.where(below <= count, trial, bound)
    return candidates & (keys < bound)


@triton.jit
def _lowest_tokens(candidates, count, seed, draw, id_lo, id_hi, BLOCK: tl.constexpr):
    """Return the `count` candidates of lowest random key."""
    chosen = candidates
    if tl.sum(candidates.to(tl.int32)) > count:
        group = tl.arange(0, BLOCK // 4)
        w0, w1, w2, w3 = tl.philox(seed, group | _STREAM_TOKEN, draw + 0 * group, id_lo + 0 * group, id_hi + 0 * group)
        words = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), (BLOCK,))  # of cells 4g, 4g + 1, ...
        keys = (words.to(tl.int64) << 28) | tl.arange(0, BLOCK)
        chosen = _lowest(keys, candidates, count, _KEY_BITS)
    return chosen


@triton.jit
def _choose(candidates, count, seed, draw, id_lo, id_hi, TAIL: tl.constexpr, BLOCK: tl.constexpr):
    if TAIL:
        return candidates & (tl.cumsum(candidates.to(tl.int32)) <= count)
    else:
        return _lowest_tokens(candidates, count, seed, draw, id_lo, id_hi, BLOCK)


@triton.jit
def _store_indices(out, chosen, count, cells, REPEATS, BLOCK: tl.constexpr):
    """Compact the chosen cells to their indices, ascending, once for each time slot of a tube."""
    cell = tl.arange(0, BLOCK)
    position = tl.cumsum(chosen.to(tl.int32)) - 1
    for t in range(REPEATS):
        tl.store(out + t * count + position, (t * cells + cell).to(tl.int64), mask=chosen)


# Seed and draw are typed, so that a new draw never means a new specialisation of the kernel.
@triton.jit(do_not_specialize=["seed", "draw"])
def multiblock_mask_kernel(
    ids, visible_out, masked_out, seed: tl.int64, draw: tl.int64,
    T, H, W, masked, visible, count_lo, count_hi, t_lo, t_hi, area_lo, area_hi, aspect_lo, aspect_hi,
    h_lo, h_hi, w_lo, w_hi,
    KIND: tl.constexpr, FILL: tl.constexpr, TAIL: tl.constexpr, SAME_SIZE: tl.constexpr, BY_AREA: tl.constexpr,
    MAX_BLOCKS: tl.constexpr, SIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    sample = tl.program_id(0).to(tl.int64)
    ident = tl.load(ids + sample)
    id_lo, id_hi = ident.to(tl.uint32), (ident >> 32).to(tl.uint32)
    draw = draw.to(tl.uint32)
    repeats = T if KIND == _TUBE else 1
    cells = T * H * W // repeats
    want_masked, want_visible = masked // repeats, visible // repeats
    cell = tl.arange(0, BLOCK)
    everything = cell < cells
    if KIND == _BLOCKS:
        blocked = cell < 0
        covered = 0
        room = cells
        wanted = 0
        if FILL == _TRIM:
            room = masked
        else:
            if FILL == _TRUNCATE:
                room = cells - visible
            word, _, _, _ = tl.philox(seed, tl.full((), _STREAM_COUNT, tl.int32), draw, id_lo, id_hi)
            wanted = count_lo + _bounded(word, count_hi - count_lo + 1)
        b = tl.full((), 0, tl.int32)
        while _wants_a_block(b, covered, wanted, masked, room, FILL, MAX_BLOCKS):
            size_index = b * 0 if SAME_SIZE else b
            s0, s1, s2, _ = tl.philox(seed, size_index | _STREAM_SIZE, draw, id_lo, id_hi)
            p0, p1, p2, order = tl.philox(seed, b | _STREAM_PLACE, draw, id_lo, id_hi)
            bt = _share(T, _between(s0, t_lo, t_hi)).to(tl.int32)
            if BY_AREA:
                area = _share(H * W, _between(s1, area_lo, area_hi))
                aspect = _between(s2, aspect_lo, aspect_hi)
                bh = _round_sqrt_ratio(area * aspect, tl.full((), 65536, tl.int64), H, SIDE)
                bw = _round_sqrt_ratio(area * 65536, aspect, W, SIDE)
            else:
                bh = _share(H, _between(s1, h_lo, h_hi)).to(tl.int32)
                bw = _share(W, _between(s2, w_lo, w_hi)).to(tl.int32)
            t = cell // (H * W) - _bounded(p0, T - bt + 1)  # relative to the block
            h = cell // W % H - _bounded(p1, H - bh + 1)
            w = cell % W - _bounded(p2, W - bw + 1)
            inside = (t >= 0) & (t < bt) & (h >= 0) & (h < bh) & (w >= 0) & (w < bw)
            fresh = inside & (blocked == 0) & everything
            count = tl.sum(fresh.to(tl.int32))
            kept = fresh
            if count > room - covered:
                h = tl.where((order & 2) > 0, bh - 1 - h, h)
                w = tl.where((order & 4) > 0, bw - 1 - w, w)
                t = tl.where((order & 8) > 0, bt - 1 - t, t)
                rank = tl.where((order & 1) > 0, h * bw + w, w * bh + h) * bt + t
                kept = _lowest(rank, fresh, room - covered, _RANK_BITS)
                count = room - covered
            blocked = blocked | kept
            covered += count
            b += 1
        if covered < masked:
            free = everything & (blocked == 0)
            blocked = blocked | _lowest_tokens(free, masked - covered, seed, draw, id_lo, id_hi, BLOCK)
        chosen = _choose(blocked, want_masked, seed, draw, id_lo, id_hi, TAIL, BLOCK)
        if FILL == _TOKENS:
            blocked = chosen
    else:
        chosen = _lowest_tokens(everything, want_masked, seed, draw, id_lo, id_hi, BLOCK)
        blocked = chosen
    free = everything & (blocked == 0)
    seen = _choose(free, want_visible, seed, draw, id_lo, id_hi, TAIL, BLOCK)
    _store_indices(masked_out + sample * masked, chosen, want_masked, cells, repeats, BLOCK)
    _store_indices(visible_out + sample * visible, seen, want_visible, cells, repeats, BLOCK)


@functools.cache
def mask_options(cells: int) -> Options:
    """Return the launches for grids of ``cells`` tokens."""
    block = max(128, triton.next_power_of_2(cells))
    default = min(max(block // 256, 4), 32)
    # Left alone, ptxas spills a few registers to save others that nothing else needs.
    launches = [{"BLOCK": block, "num_warps": default, "maxnreg": min(96, 2048 // default)}]
    others = [warps for warps in (4, 8, 16, 32) if block // 512 <= warps <= block // 64]
    launches += [{"BLOCK": block, "num_warps": warps, "maxnreg": min(255, 2048 // warps)} for warps in others]
    return options("multiblock_mask_kernel", f"up to {block} tokens", launches)


def multiblock_mask(
    ids: torch.Tensor, plan: list[int], seed: int, draw: int, backend: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Map ids int64 [B] to (visible [B, V], masked [B, M]), both int64 and ascending.

    Raises:
        RuntimeError: more than :data:`MAX_CELLS` tokens.
    """
    p = dict(zip(PLAN_FIELDS, plan, strict=True))
    visible, masked = empty_outputs(ids, plan)
    cells = p["H"] * p["W"] * (1 if p["kind"] == 1 else p["T"])
    if cells > MAX_CELLS:
        raise RuntimeError(
            f"multiblock_mask: the Triton kernel draws up to {MAX_CELLS} tokens a sample and the grid has {cells}; "
            "use backend='native' or backend='reference'"
        )
    if len(ids):
        constants = {name.upper(): p.pop(name) for name in ("kind", "fill", "tail", "same_size", "by_area")}
        multiblock_mask_kernel[(len(ids),)](
            ids.contiguous(), visible, masked, seed, draw, **p, **constants, MAX_BLOCKS=MAX_BLOCKS,
            SIDE=triton.next_power_of_2(max(p["H"], p["W"])), **choose_launch(mask_options(cells), ids.device),
        )  # fmt: skip
    return visible, masked
