"""Accuracy with its uncertainty."""

import math
from dataclasses import dataclass

import torch


def wilson_interval(correct: float, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Compute Wilson's score interval of a proportion (95 % by default), which is accurate for small test sets and near
    0 or 1.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    if total == 0:
        return 0.0, 1.0
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # Rounding must not leave the proportion itself outside, as it would at 0 and 1.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


@dataclass(frozen=True)
class Accuracy:
    """A proportion of correct answers.

    Attributes:
        correct: number of correct answers; a tie may count as half of one.
        total: number of answers.
        independent: number of independent units that were asked, such as videos with two questions each; None where
            every answer is one. The answers of a unit may all agree, so that the interval counts units, which is on the
            safe side.
    """

    correct: float
    total: int
    independent: int | None = None

    @classmethod
    def from_predictions(
        cls, predicted: torch.Tensor, labels: torch.Tensor, independent: int | None = None
    ) -> "Accuracy":
        """Count equal entries of two int64 [n] tensors."""
        return cls(int((predicted == labels).sum()), len(labels), independent)

    @property
    def value(self) -> float:
        return self.correct / self.total if self.total else float("nan")

    @property
    def units(self) -> int:
        """Return the number of independent units, which the interval counts."""
        return self.total if self.independent is None else self.independent

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % Wilson interval."""
        if self.independent is None or not self.total:
            return wilson_interval(self.correct, self.total)
        return wilson_interval(self.value * self.units, self.units)

    def as_dict(self) -> dict[str, float]:
        """Return plain numbers for JSON."""
        low, high = self.interval
        counts = {"correct": self.correct, "total": self.total, "independent": self.units}
        return {"accuracy": self.value, "low": low, "high": high, **counts}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
