"""Means of losses between two records of a stage, and totals of its clips, over all processes."""

from typing import Any

import torch

from fastvid.data import Batch
from fastvid.train.distributed import World, all_reduce_mean


class RunningMeans:
    """Sums of losses since the last record, and counts of unusual clips since the stage's first step.

    Values on a GPU are summed there, so that nothing waits for them before they are read. Every method that reads must
    be called by all processes, and returns the same on all.

    Args:
        world: this process among its peers.
        state: what :meth:`state` returned when the stage was saved; empty for a new stage.
    """

    def __init__(self, world: World, state: dict[str, Any]):
        self._world = world
        self._sums: dict[str, torch.Tensor | float] = dict(state.get("sums", {}))
        self._added: int = state.get("summed", 0)
        counts = state.get("counts", {}) if world.is_main else {}  # saved as totals over the processes
        self._counts = {name: counts.get(name, 0) for name in ("substituted_clips", "short_clips")}

    def add(self, values: dict[str, torch.Tensor], batch: Batch) -> None:
        """Add the loss of a micro-batch and its terms, and count its substituted and short clips."""
        for name, value in values.items():
            value = value.detach().double()
            self._sums[name] = self._sums.get(name, 0.0) + (value if value.is_cuda else float(value))
        self._added += 1
        self._counts["substituted_clips"] += sum(batch.substitutes)
        self._counts["short_clips"] += sum(batch.repeats)

    def take(self) -> dict[str, float]:
        """Return the means since the last call, and begin new ones."""
        means = {name: value / self._added for name, value in self._reduced().items()}
        self._sums, self._added = {}, 0
        return means

    def counts(self) -> dict[str, int]:
        """Return the number of clips that stood in for bad ones, and of those that repeated frames."""
        means = all_reduce_mean(self._world, [float(count) for count in self._counts.values()])
        return {name: round(mean * self._world.size) for name, mean in zip(self._counts, means, strict=True)}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds: sums averaged over the processes, and totals."""
        return {"sums": self._reduced(), "summed": self._added, "counts": self.counts()}

    def _reduced(self) -> dict[str, float]:
        names = list(self._sums)
        means = all_reduce_mean(self._world, [float(self._sums[name]) for name in names])
        return dict(zip(names, means, strict=True))
