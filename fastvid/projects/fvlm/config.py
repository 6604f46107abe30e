"""Options of an fVLM run."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fastvid.data.text.conversation import CAPTION_PROMPT
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.scenes import SceneConfig
from fastvid.ranges import Count, Natural, Positive, Share, ShareAboveZero
from fastvid.train.config import DataConfig, RunConfig
from fastvid.train.optim import OptimConfig
from fastvid.train.paths import PathOption


@dataclass(frozen=True)
class TextDataConfig(DataConfig):
    """Videos, what is written about them, and the clips cut from them."""

    path: Annotated[str, PathOption("data")] = "demo"
    """Shards with captions, questions and answers or conversations, a folder of videos with captions.json, a URL of
    either, or "demo"."""
    frames: Count = 8
    """Most frames of a clip; a video that has fewer is padded, and its padding is never read."""
    size: Count = 224
    """Side of a clip in pixels."""
    sampling: Literal["span", "stride", "fps"] = "span"
    """Choice of frames: evenly over the whole video, every stride-th, or at fps frames per second."""
    max_fps: Positive | None = None
    """Fewer frames of short videos: at most as many of each second; default: no limit, or 1 with lengths."""
    lengths: tuple[Count, ...] = ()
    """Batch videos of about the same length together: the numbers of frames that a clip may have, ascending, such as
    8 16 32 64. Default: every clip has room for data.frames."""
    budget: Count = 256
    """Frames of a batch with lengths, over all processes, in the place of optim.batch: long clips are few."""
    scale: tuple[ShareAboveZero, ShareAboveZero] = (1.0, 1.0)
    """Share of the frame's area kept by a training crop."""
    ratio: tuple[Positive, Positive] = (1.0, 1.0)
    """Width / height of a training crop."""
    flip: Share = 0.0
    """Probability of mirroring a training clip; what is written about it stays as it is."""
    questions: Count = 4
    """Conversations about a clip that are read at a time, another choice in each epoch; they share its keys and
    values."""
    prompt: str = CAPTION_PROMPT
    """Question that a caption answers."""
    longest: Count = 512
    """Most tokens of a conversation in front of the frames, and behind them; what is longer is cut."""
    shares: tuple[Share, Share, Share] = (0.8, 0.1, 0.1)
    """Shares of training, validation and test videos, where the data has no folders train and test."""


@dataclass(frozen=True)
class CurriculumConfig:
    """The order in which the demo's clips get harder."""

    one_frame: Natural = 250
    """Micro-batches of clips with one frame, at the start: to read where the question says is learnt by them."""
    few_tiles: Natural = 200
    """Micro-batches of clips with few tiles after them: to carry on from frame to frame is learnt by them."""


@dataclass(frozen=True)
class RestartConfig:
    """The rule by which a model of the demo that does not begin to look is given up, to begin anew from other weights.

    Attention may settle on one place before it makes use of the question, and a small model then stays there for long.
    Validation clips tell early.
    """

    step: Natural = 0
    """Optimizer step of the validation that decides, a multiple of test.every; 0: nothing is given up."""
    margin: Share = 0.02
    """Least by which the accuracy of the fine pass is above that of the coarse one there, over all validation
    questions."""
    times: Natural = 3
    """Most restarts; the last attempt is trained to its end, whatever it reaches."""


@dataclass(frozen=True)
class TestConfig:
    """Validation while a model trains, and the test at its end."""

    every: Natural = 100
    """Steps between validations; 0 for none but the last."""
    batch: Count = 16
    """Clips in a forward pass."""
    questions: Count = 4
    """Conversations about a clip that are asked, always the same ones."""
    shown: Count = 2
    """Test questions of each task whose gaze and answer are shown."""
    tokens: Count = 64
    """Most tokens of an answer that is shown."""


@dataclass(frozen=True)
class FvlmConfig:
    """Trains a vision-language model that reads each frame through one glance, the same with its static glance alone,
    and measures what the second look is worth and where it goes."""

    data: TextDataConfig = field(default_factory=TextDataConfig)
    """Videos and text."""
    demo: SceneConfig = field(default_factory=SceneConfig)
    """The demo's clips, for data.path=demo; they have frames and size of their own."""
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    """Order of the demo's clips."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Loss."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisation of the model."""
    restart: RestartConfig = field(default_factory=RestartConfig)
    """Restarts."""
    coarse_alone: bool = True
    """Also train a model whose coarse pass alone is trained: the fair opponent."""
    coarse_optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisation of that model."""
    test: TestConfig = field(default_factory=TestConfig)
    """Validation and test."""
    run: RunConfig = field(default_factory=RunConfig)
    """Run directory, logging, checkpoints."""

    def __post_init__(self) -> None:
        if self.restart.step and (not self.test.every or self.restart.step % self.test.every):
            raise ValueError(f"restart: the step {self.restart.step} is not one of every {self.test.every} validations")
        if self.model.mode == "coarse":
            raise ValueError(
                "model: the mode coarse aims no glance: train stream or parallel, beside which the coarse pass is "
                "trained too, and alone"
            )
