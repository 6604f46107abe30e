"""Options of a trajectory run. No model code is imported, so that they are read quickly."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.projects.trajectory.workers import models_of
from fastvid.ranges import Count, Natural, NotNegative, Positive, Range, Share
from fastvid.train.config import RunConfig
from fastvid.train.optim import OptimConfig
from fastvid.train.paths import PathOption

Task = Literal["motion", "noise"]
Tracker = Literal["truth", "hungarian", "norfair"]
Features = Literal["pixels", "conv", "resnet18", "salt"]


@dataclass(frozen=True)
class TokenConfig:
    """The tokens that are made of the videos, once."""

    tracker: Tracker = "hungarian"
    """hungarian: linking by optimal assignment; norfair: by the package norfair-enough, for comparison; truth: boxes
    and identities of generated videos as they are, to tell errors of tracking from all others."""
    detector: Literal["auto", "threshold", "median"] = "auto"
    """Foreground. threshold: what is bright on black; median: what differs from the pixel's median over time.
    auto: threshold for the variant seed and imported files, median otherwise."""
    features: Features = "pixels"
    """pixels: 8 x 8 pixels of the crop; conv: a small autoencoder, trained once on crops of training videos; resnet18:
    timm's with weights from the Hugging Face hub; salt: the student of a salt run."""
    source: Annotated[str, PathOption("model")] | None = None
    """For features=resnet18, its weights: a .safetensors file or a folder; default: the hub's. For features=salt, the
    run's directory, or its folder student."""


@dataclass(frozen=True)
class ModelConfig:
    """The transformer over tokens."""

    layers: Natural = 2
    """Self-attention layers."""
    width: Count = 256
    """Width of a token."""
    heads: Count = 8
    """Heads of each attention; the width must divide by it."""
    dropout: Share = 0.1
    """Dropout of what attention returns, and of hidden layers."""
    track_code: bool = True
    """Give each token a random code of its track, drawn anew for each video and epoch."""

    def __post_init__(self) -> None:
        if self.heads > 0 and self.width % self.heads:
            raise ValueError(f"model: a width of {self.width} does not divide among {self.heads} heads")


@dataclass(frozen=True)
class SupervisionConfig:
    """The term that a worker adds to the loss, and the order in which training shows the videos."""

    weight: NotNegative = 1.0
    """Weight of the worker's own term."""
    ratio: Positive = 2.0
    """Attention ratio from which a video has nothing more to gain."""
    warmup_epochs: Natural = 2
    """Epochs over which the weight grows from 0."""
    curriculum_epochs: Natural = 2
    """Epochs over which the share of transient objects that are shown grows to all of them."""
    prefix: Share = 0.5
    """Share of the videos of which only the first k frames are shown, k drawn uniformly."""
    temperature: Positive = 0.1
    """Temperature of the contrastive worker's similarities."""


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
