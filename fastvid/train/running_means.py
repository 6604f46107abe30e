"""Means of losses between two records of a stage, and totals of its clips, over all processes."""

from collections.abc import Mapping
from typing import Any

import torch

from fastvid.data import Batch
from fastvid.train.distributed import World, all_reduce_mean
from fastvid.train.loss_sum import LossSum


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
        self._items: dict[str, torch.Tensor | float] = dict(state.get("items", {}))  # of values that are sums
        counts = state.get("counts", {}) if world.is_main else {}  # saved as totals over the processes
        self._counts = {name: counts.get(name, 0) for name in ("substituted_clips", "short_clips")}

    def add(self, values: Mapping[str, torch.Tensor | LossSum], batch: Batch) -> None:
        """Add the loss of a micro-batch and its terms, and count its substituted and short clips.

        The mean of a tensor is over micro-batches, that of a :class:`LossSum` over the items of all of them.
        """
        for name, value in values.items():
            if isinstance(value, LossSum):
                _accumulate(self._items, name, value.count)
                value = value.total
            _accumulate(self._sums, name, value)
        self._added += 1
        self._counts["substituted_clips"] += sum(batch.substitutes)
        self._counts["short_clips"] += sum(batch.repeats)

    def take(self) -> dict[str, float]:
        """Return the means since the last call, and begin new ones. A value that had no items has none."""
        items = self._reduced(self._items)
        counts = {name: items.get(name, self._added) for name in self._sums}
        means = {name: value / counts[name] for name, value in self._reduced(self._sums).items() if counts[name]}
        self._sums, self._added, self._items = {}, 0, {}
        return means

    def counts(self) -> dict[str, int]:
        """Return the number of clips that stood in for bad ones, and of those that repeated frames."""
        means = all_reduce_mean(self._world, [float(count) for count in self._counts.values()])
        return {name: round(mean * self._world.size) for name, mean in zip(self._counts, means, strict=True)}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds: sums averaged over the processes, and totals."""
        items = {"items": self._reduced(self._items)} if self._items else {}
        return {"sums": self._reduced(self._sums), "summed": self._added, "counts": self.counts(), **items}

    def _reduced(self, values: Mapping[str, torch.Tensor | float]) -> dict[str, float]:
        if not values:
            return {}
        means = all_reduce_mean(self._world, [float(value) for value in values.values()])
        return dict(zip(values, means, strict=True))


def _accumulate(sums: dict[str, torch.Tensor | float], name: str, value: torch.Tensor) -> None:
    value = value.detach().double()
    sums[name] = sums.get(name, 0.0) + (value if value.is_cuda else float(value))
