"""The masks of a SALT step: how many tokens each spec hides, and which of them are predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fastvid.ops import MaskSpec, gather_tokens, multiblock_mask, sample_id
from fastvid.ops.multiblock_mask.counts import typical_counts
from fastvid.projects.salt.model import Mask

if TYPE_CHECKING:  # a step's masks are drawn where neither PyAV nor tyro is installed
    from fastvid.projects.salt.config import MaskConfig


class MaskSampler:
    """Draws the masks of training steps.

    Args:
        config: which specs, and how much they hide.
        grid: (T, H, W) tokens.
        tokens: predict a random subset of this many masked tokens; None for all.
        seed: seed of the run.
        stage: keeps the masks of the stages apart.

    Attributes:
        counts: (masked, visible) tokens of each spec.
    """

    def __init__(self, config: MaskConfig, grid: tuple[int, int, int], tokens: int | None, seed: int, stage: str):
        self.grid, self.tokens = grid, tokens
        self.specs = [config.spec(name) for name in config.specs]
        self.counts = [_counts(spec, config.ratio, grid) for spec in self.specs]
        self.seed = sample_id(f"masks of {stage}, seed {seed}")
        for (masked, visible), spec in zip(self.counts, self.specs, strict=True):
            spec.plan(grid, masked, visible)  # refuses what cannot be drawn, before anything is trained
            if visible < 1 or masked < 1:
                raise ValueError(f"mask ratio {config.ratio} leaves {visible} visible and {masked} masked of {grid}")

    def __call__(self, ids: torch.Tensor, draw: int) -> list[Mask]:
        """Draw the masks for sample ids int64 [B]. ``draw`` counts micro-batches, so that no mask is drawn twice."""
        return self.predicted(self.complete(ids, draw), ids, draw)

    def predicted(self, complete: list[Mask], ids: torch.Tensor, draw: int) -> list[Mask]:
        """Return the masks of :meth:`complete` with the masked tokens that are predicted."""
        masks = []
        for which, (visible, masked) in enumerate(complete):
            if self.tokens is not None and self.tokens < masked.shape[1]:
                turn = draw * len(self.specs) + which
                masked = random_subset(ids, masked, self.tokens, seed=self.seed ^ 1, draw=turn)
            masks.append((visible, masked))
        return masks

    def whole(self, ids: torch.Tensor, draw: int) -> Mask:
        """Return the first mask of a step with all of its masked tokens."""
        return self.complete(ids, draw)[0]

    def complete(self, ids: torch.Tensor, draw: int) -> list[Mask]:
        """Return the masks of a step with all of their masked tokens."""
        return [
            multiblock_mask(
                ids,
                self.grid,
                masked=masked,
                visible=visible,
                spec=spec,
                seed=self.seed,
                draw=draw * len(self.specs) + which,
            )
            for which, (spec, (masked, visible)) in enumerate(zip(self.specs, self.counts, strict=True))
        ]


def random_subset(ids: torch.Tensor, index: torch.Tensor, count: int, *, seed: int, draw: int) -> torch.Tensor:
    """Draw ``count`` of the K entries of each row of ``index`` int64 [B, K], in order, as masks are drawn."""
    line = (1, 1, index.shape[1])
    _, chosen = multiblock_mask(ids, line, masked=count, visible=0, spec=MaskSpec.random(), seed=seed, draw=draw)
    return gather_tokens(index.unsqueeze(-1), chosen).squeeze(-1)


def _counts(spec: MaskSpec, ratio: float, grid: tuple[int, int, int]) -> tuple[int, int]:
    time, height, width = grid
    if spec.kind == "blocks" and spec.fill == "truncate":
        return typical_counts(spec, grid)
    if spec.kind == "tube":
        sites = round(ratio * height * width)
        return sites * time, (height * width - sites) * time
    masked = round(ratio * time * height * width)
    return masked, time * height * width - masked
