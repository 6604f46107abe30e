"""Configuration of a V-JEPA 2 fine-tuning run."""

from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from fastvid.data.demo.render import DemoSize
from fastvid.nn.augment import Augment, ColourOptions
from fastvid.projects.vjepa2.approach import Approach, LoraSettings
from fastvid.projects.vjepa2.load import VITL_SSV2
from fastvid.ranges import Count, Natural, NotNegative, Range, Share, ShareAboveZero
from fastvid.train.config import LabelledDataConfig, RunConfig
from fastvid.train.optim import OptimConfig
from fastvid.train.paths import PathOption

APPROACH, VIDEOS = "--approach", "--data.videos-per-class"  # the options in which compared runs differ


@dataclass(frozen=True)
class VJepa2ModelConfig:
    """The classifier."""

    source: Annotated[str, PathOption("model")] = VITL_SSV2
    """A V-JEPA 2 video classifier: a name on the Hugging Face hub, or a local folder."""
    init: Literal["pretrained", "tiny"] = "pretrained"
    """tiny: a small model with random weights instead."""
    init_seed: Natural = 0
    """Seed of the tiny model's weights: runs with different run.seed share them."""
    keep_head: bool = False
    """Go on with the checkpoint's own head: refuse one for another number of classes instead of drawing a new one."""
    checkpointing: bool = False
    """Recompute trained layers in the backward pass: less memory, a third more time."""


@dataclass(frozen=True)
class FeaturesConfig:
    """The features that the frozen parts compute from the videos, once."""

    keep: Literal["auto", "memory", "disk", "none"] = "auto"
    """Place of the features. auto: memory if they fit into ram-gb, else the disk if they fit into disk-gb, else
    nowhere: they are computed anew in every epoch. With dir: the disk."""
    form: Literal["bf16", "fp16", "int8"] = "bf16"
    """Number format of an element."""
    views: Count = 1
    """Augmented views of each training video: epoch e is trained on view e modulo this."""
    seed: Natural = 0
    """Seed of these views: runs with different run.seed share them."""
    ram_gb: NotNegative = 4.0
    """Most memory, in 10^9 bytes."""
    disk_gb: NotNegative = 8.0
    """Most disk, in 10^9 bytes."""
    dir: Annotated[str, PathOption()] | None = None
    """Folder that runs share: features of all training videos are kept there, whatever data.videos-per-class is."""
    batch: Count = 16
    """Clips in a forward pass."""


@dataclass(frozen=True)
class AugmentConfig(ColourOptions):
    """Changes of training clips, beside data.scale, data.ratio, data.flip and data.jitter; 0 for none."""

    randaugment: Natural = 0
    """Operations of RandAugment for each clip."""
    magnitude: Annotated[int, Range(0, 30)] = 9
    """Strength of these operations, 0 to 30."""
    mixup: NotNegative = 0.0
    """Alpha of mixup; it mixes what enters the first part that trains: clips, or the features of a frozen encoder."""
    label_smoothing: Share = 0.0
    """Share of the target that goes to all classes alike."""

    def augment(self, seed: int) -> Augment:
        """Return the augmentation of clips with these options."""
        colours = {field.name: getattr(self, field.name) for field in fields(ColourOptions)}
        return Augment(
            **colours, randaugment=(self.randaugment, self.magnitude) if self.randaugment else None, seed=seed
        )


@dataclass(frozen=True)
class EvaluateConfig:
    """Measurement of accuracy."""

    clips: Count = 1
    """Clips of each video, uniformly over its length; their probabilities are averaged."""
    crops: Literal[1, 3] = 1
    """Squares of each clip: the centre, or three along the longer side."""
    crop: ShareAboveZero = 1.0
    """Share of the shorter side that is kept, as in resizing to 256 and cutting out 224 (0.875)."""


@dataclass(frozen=True)
class VJepa2Config:
    """Fine-tunes a V-JEPA 2 video classifier by head, pooler, LoRA, or all of it, and tests the best epoch."""

    approach: Approach = "head"
    """The parts that are trained."""
    data: LabelledDataConfig = field(default_factory=LabelledDataConfig)
    """Videos."""
    demo: DemoSize = field(default_factory=DemoSize)
    """The demo data set, for data.path=demo."""
    model: VJepa2ModelConfig = field(default_factory=VJepa2ModelConfig)
    """The classifier."""
    lora: LoraSettings = field(default_factory=LoraSettings)
    """Low-rank adapters, for the approaches that have them."""
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    """Features of the frozen parts."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisation; max-epochs sets how long."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """Validation after each epoch, and the test."""
    run: RunConfig = field(default_factory=RunConfig)
    """Run directory, logging, checkpoints."""
