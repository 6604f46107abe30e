"""Options of a trajectory run."""

from dataclasses import dataclass, field
from typing import Annotated

from fastvid.projects.trajectory.features import Features
from fastvid.projects.trajectory.loss import SupervisionConfig
from fastvid.projects.trajectory.model import ModelConfig
from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.projects.trajectory.tokens import TokenConfig
from fastvid.projects.trajectory.videos import Task
from fastvid.projects.trajectory.workers import models_of
from fastvid.ranges import Count, Natural, Positive, Range, Share
from fastvid.train.config import RunConfig
from fastvid.train.optim import OptimConfig


@dataclass(frozen=True)
class StopConfig:
    """The marks at which a worker is good enough, by the lower ends of 95 % intervals on validation videos."""

    every: Natural = 5
    """Epochs between two looks at the conditions; 0: never stop early."""
    accuracy: Share = 0.75
    """Least balanced accuracy, both of the videos' classes and of the tracks' verdicts."""
    ratio: Positive = 1.5
    """Least attention ratio."""
    consistency: Share = 0.7
    """Least share of videos whose ratio is above 1.3."""


@dataclass(frozen=True)
class MeasureConfig:
    """Measurements on the test videos."""

    draws: Count = 200
    """Permutations of the null."""
    confidence: Annotated[float, Range(0.5, 1, open=True)] = 0.9
    """Least probability of a verdict for a decision while the video runs."""
    shares: tuple[Share, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """Shares of tokens deleted, for the deletion curve."""
    batch: Count = 128
    """Videos in a forward pass."""


@dataclass(frozen=True)
class TrajectoryConfig:
    """Trains transformers on the objects of videos to tell which persist, with attention that is supervised or not,
    and measures where it goes."""

    workers: str = "attention,pretrained"
    """Workers, separated by commas and trained in turn: attention (attention supervised), pretrained (frozen features,
    no supervision), unsupervised, contrastive, duration."""
    task: Task = "motion"
    """Task of the read-out query: motion (of the persistent objects), or noise (whether less than a fifth of the
    frames have a transient object)."""
    pretrained: Features = "conv"
    """Frozen features: of the worker pretrained, and of one column of the 2 x 2."""
    controls: bool = True
    """Train also the other cells of the 2 x 2, a model on shuffled labels, and the supervised one with another seed."""
    data: SceneConfig = field(default_factory=SceneConfig)
    """Videos."""
    tokens: TokenConfig = field(default_factory=TokenConfig)
    """Tokens: tracker, and features of the workers other than pretrained."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The transformer."""
    supervision: SupervisionConfig = field(default_factory=SupervisionConfig)
    """Loss and curriculum."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisation of each model; max-epochs sets how long."""
    stop: StopConfig = field(default_factory=StopConfig)
    """Early stop."""
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    """Measures on the test videos."""
    run: RunConfig = field(default_factory=RunConfig)
    """Run directory, logging, checkpoints."""

    def __post_init__(self) -> None:
        models_of(self.workers, self.tokens.features, self.pretrained, self.controls)
