"""The foveated vision-language model: each frame is one token, read by a query that the language model predicts."""

from collections.abc import Callable

import torch
from torch import nn

from fastvid.projects.fvlm.connector import Connector
from fastvid.projects.fvlm.encoder import Keys, VisionEncoder
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.language import LanguageModel
from fastvid.projects.fvlm.model_config import Coarse, GazeKind, Mode, ModelConfig
from fastvid.projects.fvlm.output import Output, another_questions
from fastvid.projects.fvlm.passes import Pass


class FoveatedVLM(nn.Module):
    """A vision encoder, a language model, and the queries and tokens between them.

    Args:
        config: options.
        encoder: reads frames.
        language: reads text and one token a frame.
        token_scale: standard deviation of visual tokens at the start.
    """

    __call__: Callable[..., Output]

    def __init__(self, config: ModelConfig, encoder: VisionEncoder, language: LanguageModel, token_scale: float):
        super().__init__()
        self.config, self.encoder, self.language = config, encoder, language
        self.encoder.depth = config.query
        self.connector = Connector(
            encoder.width, language.width, token_scale, marks=config.marks, no_text=config.aim == "frames"
        )
        if config.freeze_encoder:
            encoder.requires_grad_(False)
        if config.freeze_language:
            language.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "FoveatedVLM":
        """Set the training mode of what lies between the two models.

        They themselves stay in eval mode: there they differ in dropout and its like only, which must be off, because
        the passes over one frame have to agree.
        """
        super().train(mode)
        self.encoder.eval()
        self.language.eval()
        return self

    def compile_parts(self) -> None:
        """Compile what a training step calls again and again; evaluations and answers are not compiled."""
        self.encoder.compile_parts()
        self.language.compile_parts()

    def encode(self, clips: torch.Tensor) -> Keys:
        """Compute the keys and values of clips uint8 [C, T, H, W, 3], for all questions and passes."""
        return self.encoder.encode(clips)

    def forward(
        self,
        inputs: Inputs,
        mode: Mode = "stream",
        *,
        gaze: GazeKind = "learnt",
        queries: torch.Tensor | None = None,
        coarse: Coarse = False,
        look: bool = False,
        entropy: bool = False,
        keys: Keys | None = None,
    ) -> Output:
        """Predict the learnt tokens of every question.

        Args:
            inputs: clips and questions.
            mode: how frames are read.
            gaze: where queries look.
            queries: [C, S, T, D] to use instead of predicted ones.
            coarse: also make the coarse pass; ``"measured"`` makes it without gradients.
            look: also return attention and entropy.
            entropy: also return the entropy, which is differentiable, alone.
            keys: of the clips, from :meth:`encode`; None to compute them.
        """
        keys = self.encode(inputs.clips) if keys is None else keys
        step = Pass(self, inputs, keys, gaze, look=look, entropy=entropy)
        if gaze == "shuffled" and queries is None:
            queries = another_questions(Pass(self, inputs, keys, "learnt").run(mode).queries, inputs.questions)
            step.gaze = "learnt"
        if queries is not None:
            return step.fine(queries)
        return step.run(mode, coarse)

    def untouched(self, frames: int) -> torch.Tensor:
        """Return 0, as a function of the trained parameters that a batch of so few frames may not use.

        Then their gradients are 0 and not missing, for which several processes would wait.
        """
        parts = [self.connector] if frames else [self.connector, self.encoder]
        trained = [p for part in parts for p in part.parameters() if p.requires_grad]
        return 0.0 * sum((p.sum() for p in trained), self.connector.static_query.new_zeros(()))
