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
        correct: number of correct answers.
        total: number of answers.
    """

    correct: int
    total: int

    @classmethod
    def from_predictions(cls, predicted: torch.Tensor, labels: torch.Tensor) -> "Accuracy":
        """Count equal entries of two int64 [n] tensors."""
        return cls(int((predicted == labels).sum()), len(labels))

    @property
    def value(self) -> float:
        return self.correct / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % Wilson interval."""
        return wilson_interval(self.correct, self.total)

    def as_dict(self) -> dict[str, float]:
        """Return plain numbers for JSON."""
        low, high = self.interval
        return {"accuracy": self.value, "low": low, "high": high, "correct": self.correct, "total": self.total}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
