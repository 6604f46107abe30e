"""Configuration and presets of the SALT recipe."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastvid import nn
from fastvid.data.demo.render import DemoSize
from fastvid.eval.options import PROBES, Probe, ProbeOptions
from fastvid.models.block_numbers import BlockNumbers
from fastvid.models.vit_config import ViTOptions
from fastvid.ops import MaskSpec
from fastvid.ranges import Count, Natural, NotNegative, Positive, Range, Share, ShareAboveZero
from fastvid.train.config import DataConfig, RunConfig
from fastvid.train.optim import OptimConfig
from fastvid.train.paths import PathOption


@dataclass(frozen=True)
class ModelConfig(ViTOptions):
    """The student; the pixel teacher is built the same way."""

    checkpointing: bool = False
    """Recompute blocks in the backward pass: less memory, a third more time."""


@dataclass(frozen=True)
class MaskConfig:
    """The tokens that are hidden from the encoder and predicted."""

    specs: tuple[Literal["multiblock", "salt", "vjepa_short", "vjepa_long", "tube", "random"], ...] = ("multiblock",)
    """Mask specs of a step; the loss is averaged over them."""
    ratio: Annotated[float, Range(0, 1, open=True, open_high=True)] = 0.75
    """Share of masked tokens; for vjepa_* the published masks decide how many there are."""
    truncate: Literal["random", "tail"] = "random"
    """Surplus tokens that vjepa_* drop: random ones, or the last in token order as the official code does."""
    temporal: tuple[ShareAboveZero, ShareAboveZero] | None = None
    """Overrides the share of time that a block spans."""
    area: tuple[ShareAboveZero, ShareAboveZero] | None = None
    """Overrides the share of the frame that a block covers."""

    def spec(self, name: str) -> MaskSpec:
        """Return the MaskSpec of one entry of ``specs``."""
        make: Callable[..., MaskSpec] = getattr(MaskSpec, name)
        if name in ("tube", "random"):
            return make()
        changes: dict[str, Any] = {}
        if self.temporal is not None:
            changes["temporal"] = self.temporal
        if self.area is not None:
            changes |= {"area": self.area, "height": None, "width": None}
        if name.startswith("vjepa"):
            changes["truncate"] = self.truncate
        return make(**changes)


@dataclass(frozen=True)
class PredictorConfig(nn.PredictorConfig):
    """The narrow transformer between the student's tokens and the predictions."""

    tokens: Count | None = None
    """Predict a random subset of this many masked tokens; default: all of them."""


@dataclass(frozen=True)
class LossConfig:
    """The loss between predictions and targets."""

    kind: Literal["mse", "l1", "smooth_l1", "cosine"] = "mse"
    """Distance between prediction and target."""
    normalize_target: bool = True
    """LayerNorm each target, without affine parameters."""
    variance: NotNegative = 0.0
    """Weight of VICReg's variance penalty on the predictions."""
    covariance: NotNegative = 0.0
    """Weight of VICReg's covariance penalty on the predictions."""
    context: NotNegative = 0.0
    """Weight of the loss on visible tokens, which are then predicted too; each counts 1 / sqrt(distance to the nearest
    masked token in the grid), as in V-JEPA 2.1 (arXiv 2603.14482); 0 for none."""
    context_warmup: tuple[Share, Share] = (0.1, 0.2)
    """Shares of the steps between which that weight rises from 0."""

    def __post_init__(self) -> None:
        if self.context_warmup[0] > self.context_warmup[1]:
            raise ValueError(f"loss: context_warmup must begin before it ends; got {self.context_warmup}")


@dataclass(frozen=True)
class TeacherConfig:
    """The frozen teacher, and how the pixel teacher is trained."""

    source: Annotated[str, PathOption("teacher")] = "pixel"
    """pixel (trained first, in this run), checkpoint:PATH, or hf:NAME_OR_DIR: VideoMAE, V-JEPA 2, or an encoder of
    images, DINOv2 or DINOv3, that sees every frame by itself."""
    layers: BlockNumbers = ()
    """Blocks of the teacher whose latents are predicted, each normalised, as in 3,6,9,12 (the first block is 1): by one
    predictor, from as many of the student's blocks, fused (V-JEPA 2.1, arXiv 2603.14482); default: the last one's."""
    mask: MaskConfig = field(default_factory=MaskConfig)
    """Masks of the pixel stage."""
    predictor: PredictorConfig = field(default_factory=lambda: PredictorConfig(depth=4))
    """Decoder of the pixel stage."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Loss of the pixel stage; normalize_target normalises the pixels of each tubelet."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisation of the pixel stage."""


@dataclass(frozen=True)
class LatentWindowConfig:
    """A sliding-window cache: the teacher runs once for several showings of a view, and what it said is kept for as
    long as the order is at that window of shards."""

    echo: Count = 1
    """Times that each window (--data.window shards) is shown in a row, in a new order and under new masks but in the
    same views (data echoing, arXiv 1907.05550); 1 for no cache."""
    gb: Positive = 8.0
    """Most that the latents of two windows take in the run's directory, in 10^9 bytes."""
    form: Literal["fp16", "bf16", "int8"] = "fp16"
    """Number format of an element; int8 has a float16 scale for each token."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(ProbeOptions):
    """The probes of the trained encoder, where videos have labels."""

    enabled: bool = True
    """Run the probes at the end."""
    split: Literal["auto", "none"] = "auto"
    """Videos that are not trained on but kept for the probes: the test part that the data set shows, or else
    data.holdout (auto); or none, and then no index is read before training: for hundreds of millions of videos."""
    probes: tuple[Probe, ...] = (*PROBES, "arrow", "order", "static", "reversed")
    """Which probes, as in `python -m fastvid.eval --probe`."""


@dataclass(frozen=True)
class HealthConfig:
    """Checks for collapse on a fixed batch of clips."""

    every: Natural = 500
    """Steps between checks, beside the one after the last step; 0 for none."""
    clips: Count = 64
    """Clips in the batch."""


@dataclass(frozen=True)
class SaltConfig:
    """SALT: train a pixel teacher, freeze it, train a student to predict its latents, probe the student."""

    data: DataConfig = field(default_factory=DataConfig)
    """Videos."""
    demo: DemoSize = field(default_factory=DemoSize)
    """The demo data set, for data.path=demo."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The encoder."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """The teacher."""
    latents: Annotated[str, PathOption()] | None = None
    """Folder that `python -m fastvid.cache` made: the student's targets are read there, its views are the cache's, and
    no teacher runs."""
    latent_window: LatentWindowConfig = field(default_factory=LatentWindowConfig)
    """A cache that slides along with the student's stage, without `latents`."""
    mask: MaskConfig = field(default_factory=MaskConfig)
    """Masks of the student's stage."""
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    """The student's predictor."""
    loss: LossConfig = field(default_factory=LossConfig)
    """The student's loss."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisation of the student's stage."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    """Evaluation at the end."""
    health: HealthConfig = field(default_factory=HealthConfig)
    """Collapse checks."""
    run: RunConfig = field(default_factory=RunConfig)
    """Run directory, logging, checkpoints."""

    def __post_init__(self) -> None:
        if self.teacher.layers and not self.loss.normalize_target:
            raise ValueError(
                "teacher.layers are blocks whose latents differ in size: each must be normalised, so leave "
                "loss.normalize_target on"
            )
        if self.latents is not None and self.latent_window.echo > 1:
            raise ValueError(
                "latents and latent-window.echo exclude each other: with a cache of all latents no teacher runs"
            )
