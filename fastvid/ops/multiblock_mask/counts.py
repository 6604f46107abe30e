"""Typical token counts of a spec whose blocks, not a target, determine the counts."""

import functools
from types import SimpleNamespace

import torch

from fastvid.ops.multiblock_mask import reference
from fastvid.ops.multiblock_mask.spec import PLAN_FIELDS, MaskSpec


@functools.cache
def typical_counts(spec: MaskSpec, grid: tuple[int, int, int], quantile: float = 0.04) -> tuple[int, int]:
    """Return (masked, visible) token counts for a ``fill="truncate"`` spec.

    The official V-JEPA collator cuts every sample's lists to the shortest of its batch of 24. Counts that must not
    depend on the batch stand in for that minimum: the ``quantile`` (1/24, about 0.04) of what the spec's blocks cover,
    and of what they leave, over 1024 masks of a fixed seed.

    Raises:
        ValueError: a spec that meets a given count.
    """
    if spec.kind != "blocks" or spec.fill != "truncate":
        raise ValueError("typical_counts is for specs with fill='truncate', such as MaskSpec.vjepa_short()")
    tokens = grid[0] * grid[1] * grid[2]
    plan = SimpleNamespace(**dict(zip(PLAN_FIELDS, spec.plan(grid, 0, 0), strict=True)))
    covered = reference.draw_blocks(plan, reference.SampleWords(torch.arange(1024), 0, 0)).sum(1).double()
    masked = int(covered.quantile(quantile))
    visible = int((tokens - covered).quantile(quantile))
    return max(1, masked), max(1, visible)
