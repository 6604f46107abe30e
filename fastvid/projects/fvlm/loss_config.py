"""Options of the loss. No model code is imported, so that they are read quickly."""

from dataclasses import dataclass

from fastvid.ranges import NotNegative


@dataclass(frozen=True)
class LossConfig:
    """The loss."""

    coarse_weight: NotNegative = 1.0
    """Of the coarse pass's cross-entropy. With 0 the coarse pass is measured and not trained, and no fair
    comparison."""
