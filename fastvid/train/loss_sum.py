"""A loss that is a sum over items, such as the tokens of answers, of which each batch has another number."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class LossSum:
    """The loss of a micro-batch as a sum over its items, and how many these are.

    An optimizer update minimises the sum over all its micro-batches and processes, divided by the number of all their
    items: every item weighs the same, however they are dealt out. The mean of the micro-batches' means would give the
    items of a short batch more weight.

    Attributes:
        total: scalar, differentiable: sum of the items' losses.
        count: scalar: number of items; not differentiated.
    """

    total: torch.Tensor
    count: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        """Return the mean over the items, a scalar; nan without one."""
        return self.total / self.count
