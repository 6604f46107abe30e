"""Options of an fVLM run."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fastvid.data.text.conversation import CAPTION_PROMPT
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.reconstruct_config import ReconstructConfig
from fastvid.projects.fvlm.scenes import SceneConfig
from fastvid.ranges import Count, Natural, NotNegative, Positive, Share, ShareAboveZero
from fastvid.train.config import DataConfig, RunConfig
from fastvid.train.optim import OptimConfig
from fastvid.train.paths import PathOption


@dataclass(frozen=True)
class TextDataConfig(DataConfig):
    """Videos, what is written about them, and the clips cut from them."""

    path: Annotated[str, PathOption("data")] = "demo"
    """Shards with captions, questions and answers or conversations, a folder of videos with captions.json, a URL of
    either, or "demo"."""
    mix: Annotated[tuple[str, ...], PathOption("share")] = ()
    """Further collections to train on, each with its share of the batches: PATH=SHARE ...; data.path has the rest. They
    may hold videos, still images or texts without either; each batch is of one kind. Validation and test clips are
    those of data.path."""
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
    token_ids: bool = True
    """Train on token_ids and loss_mask as they are where samples have them, which must be of the model's tokenizer;
    False: on what is written beside them."""
    image_looks: Count = 1
    """Looks at a still image, which is encoded once."""
    shares: tuple[Share, Share, Share] = (0.8, 0.1, 0.1)
    """Shares of training, validation and test videos, where the data has no folders train and test."""

    @property
    def used_fps(self) -> float | None:
        """Return the most frames taken of each second of a video, None for no limit."""
        return self.max_fps or (1.0 if self.lengths else None)


@dataclass(frozen=True)
class CurriculumConfig:
    """The order in which the demo's clips get harder."""

    one_tile: Natural = 50
    """Micro-batches of clips with one frame and one tile, at the start: to read a letter is learnt by them. While that
    cannot be done, looking at different places is of no use, and queries forget the question they come from."""
    one_frame: Natural = 200
    """Micro-batches of clips with one frame after them: to read where the question says is learnt by them."""
    two_frames: Natural = 400
    """Micro-batches of clips with two frames after them: to look where the first frame says is learnt by them. In
    longer clips, a letter that leads to the wrong tile makes noise of all that follows, and stays wrong."""


@dataclass(frozen=True)
class BackboneConfig:
    """Learning rates of the encoder and of the language model, where these are others than those of what lies between
    them; the rest of their optimisation is the same."""

    lr: Positive | None = None
    """Peak learning rate; default: optim.lr."""
    min_lr: NotNegative | None = None
    """Learning rate at the end of the cosine, which may be above the peak; default: optim.min-lr."""


@dataclass(frozen=True)
class RestartConfig:
    """The rule by which a model of the demo that does not begin to look is given up, to begin anew from other weights.

    Attention may settle on one place before it makes use of the question, and a small model then stays there for long.
    Validation clips tell early.
    """

    step: Natural = 0
    """Optimizer step of the validation that decides, a multiple of test.every; 0: nothing is given up."""
    margin: Share = 0.01
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
    start: Annotated[str, PathOption()] | None = None
    """Folder of a run whose trained model this one goes on from, in the place of model.encoder and model.language."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Loss."""
    reconstruct: ReconstructConfig = field(default_factory=ReconstructConfig)
    """Reconstruction of frames beside the answers."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisation of the model."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Learning rates of the encoder and the language model."""
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

    @property
    def stored_latents(self) -> bool:
        """Return whether the latents that are stored beside the videos are read."""
        return self.reconstruct.on and self.reconstruct.latents == "data"

    def __post_init__(self) -> None:
        data = self.data
        if self.stored_latents and (data.scale, data.ratio, data.flip) != ((1.0, 1.0), (1.0, 1.0), 0.0):
            raise ValueError(
                "reconstruct: the data's latents are of whole frames: leave --data.scale, --data.ratio and --data.flip "
                "at 1 1, 1 1 and 0"
            )
        if self.restart.step and (not self.test.every or self.restart.step % self.test.every):
            raise ValueError(f"restart: the step {self.restart.step} is not one of every {self.test.every} validations")
        if self.start is not None and self.restart.step:
            raise ValueError("start: a model that goes on from a run has no other first weights: use --restart.step 0")
        if self.reconstruct.on and self.reconstruct.latents == "diffusers" and data.lengths:
            raise ValueError(
                "reconstruct: diffusers' latents are kept of clips of data.frames frames, and --data.lengths gives "
                "them others: use one of the two"
            )
        if self.reconstruct.told and self.model.aim == "frames":
            raise ValueError(
                "reconstruct: told puts the text in front of the frames, and --model.aim frames reads them without it: "
                "use --model.aim text"
            )
        if self.reconstruct.told and self.coarse_alone:
            raise ValueError(
                "reconstruct: told learns no answer, and coarse-alone compares answers: use --coarse-alone False"
            )
        if self.model.mode == "coarse":
            raise ValueError(
                "model: the mode coarse aims no glance: train stream or parallel, beside which the coarse pass is "
                "trained too, and alone"
            )
