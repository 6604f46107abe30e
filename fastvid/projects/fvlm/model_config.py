"""Options of the foveated vision-language model. No model code is imported, so that they are read quickly."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastvid.ranges import Count, Natural, Positive
from fastvid.train.paths import PathOption

Mode = Literal["coarse", "parallel", "stream"]
"""``coarse``: every frame is read with one static query. ``parallel``: then once more with queries that the language
model predicts from the coarse tokens. ``stream``: frame by frame, each query predicted from what was seen before."""

GazeKind = Literal["learnt", "uniform", "oracle", "shuffled"]
"""Aims of queries: ``learnt`` where they want to, ``uniform`` everywhere alike, ``oracle`` at the true patch,
``shuffled`` where another question's queries want to."""

Kind = Literal["coarse", "fine"]
"""Kind of a pass: with the static query, or with predicted ones."""
Coarse = bool | Literal["measured"]
"""Whether the coarse pass is made beside the fine one; ``measured``: without gradients."""


@dataclass(frozen=True)
class ModelConfig:
    """The model: an encoder that is looked at, and the language model that looks."""

    init: Literal["pretrained", "tiny"] = "pretrained"
    """tiny: a small encoder and a small language model with random weights, and a tokenizer of the training texts."""
    encoder: Annotated[str, PathOption("model")] = "facebook/dinov2-small"
    """DINOv2, DINOv3 or a vision transformer of timm, from the Hugging Face hub or a local folder; or timm:NAME."""
    language: Annotated[str, PathOption("model")] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    """A causal language model with a chat template, from the Hugging Face hub or a local folder."""
    init_seed: Natural = 0
    """Seed of what starts at random."""
    freeze_encoder: bool = False
    """Do not train the encoder."""
    freeze_language: bool = False
    """Do not train the language model."""
    query: Literal["deep", "shallow"] = "deep"
    """deep: a query passes through every layer of the encoder; shallow: it reads the finished patches once."""
    mode: Mode = "stream"
    """Way in which frames are read in training."""
    iterations: Count = 1
    """Fine passes of the parallel mode, each with the queries that the one before predicts."""
    layout: Literal["question-first", "video-first"] = "question-first"
    """Order in which the language model reads. Only behind the question can a look depend on it."""
    first_query: Literal["text", "learnt"] = "text"
    """Query of the first frame: predicted from the text in front of the video, or one that is learnt."""
    marks: bool = False
    """A learnt token in front of the frames says which pass reads them, the coarse or a fine one."""
    aim: Literal["text", "frames"] = "text"
    """What queries are predicted from. text: what the answer is written from too, the text in front of the video and
    the frames so far. frames: the frames alone, in a sequence of their own behind a learnt token, so that all questions
    about a clip look alike; it has marks, and a learnt first query."""
    token_scale: Positive | None = None
    """Standard deviation of a visual token at the start; default: that of the language model's embeddings."""
    tiny_width: Count = 96
    """Width of the tiny encoder and of the tiny language model."""
    tiny_layers: Count = 2
    """Layers of each."""
    tiny_encoder_layers: Count | None = None
    """Layers of the tiny encoder, where these are others than the language model's."""
    tiny_heads: Count = 4
    """Heads of each attention."""
    tiny_patch: Count = 16
    """Side of a patch of the tiny encoder, in pixels."""

    def __post_init__(self) -> None:
        if self.tiny_heads > 0 and self.tiny_width % (2 * self.tiny_heads):
            raise ValueError(
                f"model: a tiny width of {self.tiny_width} does not divide among {self.tiny_heads} heads of even width"
            )
        if self.aim == "frames" and (not self.marks or self.first_query == "text"):
            raise ValueError(
                "model: with --model.aim frames no text is in front of the frames: use --model.marks True and "
                "--model.first-query learnt"
            )
        if self.layout == "video-first" and self.first_query == "text":
            raise ValueError(
                "model: video-first has no question in front of the video to predict the first query from: "
                "use --model.first-query learnt"
            )
