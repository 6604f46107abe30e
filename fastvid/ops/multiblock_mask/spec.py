"""MaskSpec, the parameters of multiblock masks, and its presets."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

Range = tuple[float, float]

_KINDS = {"blocks": 0, "tube": 1, "random": 2}
_FILLS = {"trim": 0, "truncate": 1, "tokens": 2}
_Q24, _Q16 = 1 << 24, 1 << 16

# Field order of MaskPlan in csrc/multiblock_mask.h.
PLAN_FIELDS = (
    "T", "H", "W", "masked", "visible", "kind", "fill", "tail", "count_lo", "count_hi", "same_size", "t_lo", "t_hi",
    "by_area", "area_lo", "area_hi", "aspect_lo", "aspect_hi", "h_lo", "h_hi", "w_lo", "w_hi",
)  # fmt: skip


@dataclass(frozen=True)
class MaskSpec:
    """The rule by which the masked tokens of a (T, H, W) grid are drawn.

    Blocks are boxes of tokens at uniform positions. A block is ``max(1, floor(T * s))`` tokens long with ``s`` uniform
    in ``temporal``; its sides are either ``sqrt(area * aspect)`` and ``sqrt(area / aspect)``, rounded and clamped to
    the grid, or the shares of H and W drawn from ``height`` and ``width``.

    The same number of tokens is wanted for every sample, and blocks overlap, so ``fill`` says how the count is met:

    - ``"trim"``: blocks are added until the wanted number of tokens is covered; of the block that crosses it, only a
      part is kept: whole rows or columns of tubes from a random side. Nothing but blocks is masked.
    - ``"truncate"``: ``count`` blocks are drawn, more only if they cover too little, and the one that would leave too
      few visible tokens is trimmed. Tokens in excess on either side belong to neither set; ``truncate`` says which go:
      ``"random"`` ones, or the ``"tail"`` of the token order (which favours early frames, as the official code does).
    - ``"tokens"``: exactly ``count`` blocks are drawn, then i.i.d. tokens are masked, or unmasked, to meet the count.

    Attributes:
        kind: ``"blocks"``; ``"tube"`` (i.i.d. sites, each masked at all times) or ``"random"`` (i.i.d. tokens), for
            which no other field but ``truncate`` matters.
        count: least and greatest number of blocks, drawn uniformly.
        temporal: share of T that a block spans.
        area: share of H * W that a block covers; None to use ``height`` and ``width``.
        aspect: a block's height / width, with ``area``.
        height: share of H, without ``area``.
        width: share of W, without ``area``.
        same_size: all blocks of a sample have the size of its first.
        fill: how the wanted number of tokens is met, see above.
        truncate: which tokens go when there are too many, see above. Where masked and visible together are fewer than
            the grid it also says which visible ones go; with ``"tokens"``, which blocked ones where there are too many.
    """

    kind: Literal["blocks", "tube", "random"] = "blocks"
    count: tuple[int, int] = (1, 1)
    temporal: Range = (1.0, 1.0)
    area: Range | None = (0.15, 0.15)
    aspect: Range = (0.75, 1.5)
    height: Range | None = None
    width: Range | None = None
    same_size: bool = False
    fill: Literal["trim", "truncate", "tokens"] = "trim"
    truncate: Literal["random", "tail"] = "random"

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"MaskSpec: kind must be one of {', '.join(_KINDS)}; got {self.kind!r}")
        if self.fill not in _FILLS:
            raise ValueError(f"MaskSpec: fill must be one of {', '.join(_FILLS)}; got {self.fill!r}")
        if self.truncate not in ("random", "tail"):
            raise ValueError(f"MaskSpec: truncate must be random or tail; got {self.truncate!r}")
        low, high = self.count
        if not 0 <= low <= high <= 512:
            raise ValueError(f"MaskSpec: count must satisfy 0 <= low <= high <= 512; got {self.count}")
        if (self.area is None and None in (self.height, self.width)) or (self.area and (self.height or self.width)):
            raise ValueError("MaskSpec: give either area (with aspect), or height and width with area=None")
        for name in ("temporal", "area", "height", "width"):
            share = getattr(self, name)
            if share is not None and not 0 < share[0] <= share[1] <= 1:
                raise ValueError(f"MaskSpec: {name} must satisfy 0 < low <= high <= 1; got {share}")
        if not 1 / 64 <= self.aspect[0] <= self.aspect[1] <= 64:
            raise ValueError(f"MaskSpec: aspect must satisfy 1/64 <= low <= high <= 64; got {self.aspect}")

    @classmethod
    def multiblock(cls, **changes: Any) -> "MaskSpec":
        """Return the default spec: blocks of 15 % of the frame through all time, added until the target is met."""
        return dataclasses.replace(cls(), **changes)

    @classmethod
    def salt(cls, **changes: Any) -> "MaskSpec":
        """Return the published SALT-VLA spec: 4 to 8 blocks of independent sides, then i.i.d. tokens to the exact
        count.

        At 75 % masked on an 8 x 14 x 14 grid the blocks cover 19 % on average, so most masked tokens are i.i.d.
        """
        spec = cls(count=(4, 8), temporal=(0.1, 0.5), area=None, height=(0.15, 0.7), width=(0.15, 0.7), fill="tokens")
        return dataclasses.replace(spec, **changes)

    @classmethod
    def vjepa_short(cls, *, truncate: Literal["random", "tail"] = "random", **changes: Any) -> "MaskSpec":
        """Return V-JEPA's short-range spec: 8 blocks of 15 % of the frame through all time."""
        spec = cls(count=(8, 8), same_size=True, fill="truncate", truncate=truncate)
        return dataclasses.replace(spec, **changes)

    @classmethod
    def vjepa_long(cls, *, truncate: Literal["random", "tail"] = "random", **changes: Any) -> "MaskSpec":
        """Return V-JEPA's long-range spec: 2 blocks of 70 % of the frame through all time."""
        spec = cls(count=(2, 2), area=(0.7, 0.7), same_size=True, fill="truncate", truncate=truncate)
        return dataclasses.replace(spec, **changes)

    @classmethod
    def tube(cls) -> "MaskSpec":
        """Return VideoMAE's tube spec: i.i.d. sites of the frame, masked at all times."""
        return cls(kind="tube")

    @classmethod
    def random(cls) -> "MaskSpec":
        """Return the spec of i.i.d. tokens."""
        return cls(kind="random")

    def plan(self, grid: tuple[int, int, int], masked: int, visible: int) -> list[int]:
        """Return the integers that the samplers read, in the order of ``PLAN_FIELDS``; shares become fixed-point
        numbers.

        Raises:
            ValueError: the counts do not fit the grid, or, for tubes, are not a multiple of T.
        """
        t, h, w = grid
        tokens = t * h * w
        if min(grid) < 1:
            raise ValueError(f"multiblock_mask: every side of the grid must be at least 1; got {tuple(grid)}")
        if tokens > 2**28 or max(grid) > 2**16:
            raise ValueError(
                f"multiblock_mask: the grid {tuple(grid)} has {tokens} tokens; at most 2**28 are supported, and 2**16 "
                "along a side"
            )
        if masked < 0 or visible < 0 or masked + visible > tokens:
            raise ValueError(
                f"multiblock_mask: masked={masked} and visible={visible} do not fit a grid of "
                f"{t} x {h} x {w} = {tokens} tokens"
            )
        if self.kind == "tube" and (masked % t or visible % t):
            raise ValueError(
                f"multiblock_mask: tubes mask whole sites, so masked={masked} and visible={visible} must be multiples "
                f"of T={t}; nearest are {round(masked / t) * t} and {round(visible / t) * t}"
            )
        height, width, area = self.height or (1, 1), self.width or (1, 1), self.area or (1, 1)
        fields = {
            "T": t, "H": h, "W": w, "masked": masked, "visible": visible,
            "kind": _KINDS[self.kind], "fill": _FILLS[self.fill], "tail": int(self.truncate == "tail"),
            "count_lo": self.count[0], "count_hi": self.count[1], "same_size": int(self.same_size),
            "by_area": int(self.area is not None),
            "t_lo": _fixed(self.temporal[0], _Q24), "t_hi": _fixed(self.temporal[1], _Q24),
            "area_lo": _fixed(area[0], _Q24), "area_hi": _fixed(area[1], _Q24),
            "aspect_lo": _fixed(self.aspect[0], _Q16), "aspect_hi": _fixed(self.aspect[1], _Q16),
            "h_lo": _fixed(height[0], _Q24), "h_hi": _fixed(height[1], _Q24),
            "w_lo": _fixed(width[0], _Q24), "w_hi": _fixed(width[1], _Q24),
        }  # fmt: skip
        return [fields[name] for name in PLAN_FIELDS]


def _fixed(share: float, one: int) -> int:
    # Rounded up, so that floor(10 * 0.7) is 7 although 0.7 has no exact binary form.
    return math.ceil(share * one)
