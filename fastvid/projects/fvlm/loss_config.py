"""Options of the loss. No model code is imported, so that they are read quickly."""

from dataclasses import dataclass
from typing import Literal

from fastvid.ranges import Natural, NotNegative


@dataclass(frozen=True)
class LossConfig:
    """The loss."""

    learn: Literal["answers", "all"] = "answers"
    """Tokens that are learnt: those of the answers and their ends, or all text behind the video, questions too."""
    coarse_weight: NotNegative = 1.0
    """Weight of the coarse pass's cross-entropy. With 0 the coarse pass is measured and not trained, and no fair
    comparison."""
    entropy_floor: NotNegative = 0.0
    """Keep the attention of aimed glances above this entropy, in nats, for a part of the training: attention that
    settles on one place before it makes use of the question, or of what was seen, stays there long. 0 for no
    floor."""
    entropy_weight: NotNegative = 0.3
    """Weight of what is missing to the floor, in the mean over layers, heads and glances."""
    entropy_from: Natural = 0
    """Micro-batch that the floor begins at."""
    entropy_steps: Natural = 200
    """Micro-batches over which that weight then falls to 0."""

    def entropy_weight_at(self, micro: int) -> float:
        """Return the weight of the entropy's floor in a micro-batch."""
        passed = micro - self.entropy_from
        if not self.entropy_floor or not 0 <= passed < self.entropy_steps:
            return 0.0
        return self.entropy_weight * (1 - passed / self.entropy_steps)
