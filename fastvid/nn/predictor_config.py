"""Configuration of the predictor. It imports no model code, so that the options of a run are read without it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastvid.ranges import Count, Positive, Range


@dataclass(frozen=True)
class PredictorConfig:
    """The narrow transformer between the student's tokens and the predictions."""

    width: Annotated[int, Range(2)] = 384
    """Even, and divisible by heads."""
    depth: Count = 12
    """Blocks."""
    heads: Count = 12
    """Attention heads."""
    layout: Literal["concat", "dense", "cross"] = "concat"
    """Run on visible and masked tokens only, scatter into the full grid as SALT-VLA does, or let masked tokens attend
    to the visible ones alone: the cheapest."""
    temperature: Positive = 10000.0
    """Base of the positions' frequencies: smaller tells the few positions of a small grid apart better."""
    position_scale: Positive = 1.0
    """Positions are multiplied by this; more than 1 makes a small predictor look at once where tokens are."""

    def __post_init__(self):
        if self.heads > 0 and (self.width % self.heads or self.width % 2):  # ranges are compared elsewhere
            raise ValueError(f"predictor: width {self.width} must be even and divisible by its {self.heads} heads")
        if self.layout not in ("concat", "dense", "cross"):
            raise ValueError(f"predictor: layout must be concat, dense or cross; got {self.layout!r}")
