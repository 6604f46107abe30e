"""The foveated vision-language model: each frame is one token, read by a query that the language model predicts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torch.nn import functional

from fastvid.projects.fvlm.connector import Connector
from fastvid.projects.fvlm.encoder import Gaze, Keys, VisionEncoder
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.language import LanguageModel, Reading
from fastvid.projects.fvlm.model_config import GazeKind, Mode, ModelConfig


@dataclass(kw_only=True)
class Output:
    """The model's answers about C clips with S questions each.

    Attributes:
        learnt: bool [C, S, A], the tokens behind the video that have a label; n of them.
        labels: int64 [n], their ids, in the order of ``learnt``.
        logits: [n, V], the prediction of each.
        queries: [C, S, T, D], the query of each frame.
        entropy: float32 [layers, C, S, T, heads] of the attention, in nats; None unless asked for.
        attention: float32 [C, S, T, heads, N] of each layer: the weights that were used, of the tokens in front of the
            patches first; None unless asked for.
        coarse: output of the coarse pass over the same keys, if it was asked for.
    """

    learnt: torch.Tensor
    labels: torch.Tensor
    logits: torch.Tensor
    queries: torch.Tensor
    entropy: torch.Tensor | None = None
    attention: list[torch.Tensor] | None = None
    coarse: "Output | None" = None

    @cached_property
    def losses(self) -> torch.Tensor:
        """Return the cross-entropy of each learnt token, float32 [n], in nats."""
        return functional.cross_entropy(self.logits.float(), self.labels, reduction="none")

    @cached_property
    def right(self) -> torch.Tensor:
        """Return whether the likeliest token is the label, bool [n]."""
        return self.logits.argmax(-1) == self.labels

    def spread(self, values: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
        """Return values [n] of the learnt tokens at their places, [C, S, A]."""
        return values.new_full(self.learnt.shape, fill).masked_scatter(self.learnt, values)


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
        self.connector = Connector(encoder.width, language.width, token_scale)
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
        coarse: bool = False,
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
            coarse: also make the coarse pass.
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


class Pass:
    """The passes over one batch, which share its keys and what the language model read in front of the video.

    Args:
        model: the model.
        inputs: clips and questions.
        keys: of the clips.
        gaze: where queries look.
        look: keep attention and entropy.
        entropy: keep the entropy.
    """

    def __init__(
        self,
        model: FoveatedVLM,
        inputs: Inputs,
        keys: Keys,
        gaze: GazeKind,
        *,
        look: bool = False,
        entropy: bool = False,
    ):
        self.model, self.inputs, self.keys, self.gaze = model, inputs, keys, gaze
        self.look, self.entropy = look, entropy
        self.connector = model.connector
        (self.C, self.T), self.S = inputs.frames.shape, inputs.questions.shape[1]
        questions = inputs.questions.flatten()[:, None]  # what is no question is read as if it were one: never empty
        self.real = inputs.frames.repeat_interleave(self.S, 0)
        self.after_real = inputs.after_mask.flatten(0, 1)
        self.text = model.language.start()
        self.text_hidden: torch.Tensor | None = None
        if inputs.before.shape[-1]:
            embeds = model.language.embed(inputs.before.flatten(0, 1))
            self.text_hidden = self.text.read(embeds, inputs.before_mask.flatten(0, 1) | ~questions)[:, -1]

    def run(self, mode: Mode, coarse: bool = False) -> Output:
        """Make the passes of a mode."""
        if mode == "stream":
            output = self.stream()
            if coarse:
                output.coarse = self.coarse()[0]
            return output
        output, hidden = self.coarse()
        if mode == "coarse":
            return output
        first = output if coarse else None
        queries = self.following(hidden)
        for _ in range(self.model.config.iterations - 1):
            tokens, _ = self.tokens(queries)
            queries = self.following(self.text.fork().read(tokens, self.real))
        output = self.fine(queries)
        output.coarse = first
        return output

    def coarse(self) -> tuple[Output, torch.Tensor]:
        """Read every frame with the static query. Return also the hidden states of the frames, [R, T, W]."""
        query = self.connector.static_query.expand(self.C, 1, self.T, -1)  # one for all questions
        tokens, gaze = self.tokens(query)
        tokens = tokens.unflatten(0, (self.C, 1)).expand(-1, self.S, -1, -1).flatten(0, 1)
        hidden = self.read(self.text.fork(), tokens)
        return self.output(hidden, query, [gaze]), hidden[:, : self.T]

    def fine(self, queries: torch.Tensor) -> Output:
        """Read all frames at once with queries [C, S, T, D]."""
        tokens, gaze = self.tokens(queries)
        return self.output(self.read(self.text.fork(), tokens), queries, [gaze])

    def stream(self) -> Output:
        """Read frame after frame, each with the query that was predicted at the one before."""
        reading, keys = self.text.fork(), self.keys.split()
        query = self.first_query()
        queries, gazes, states = [query], [], []
        for t in range(self.T):
            tokens, gaze = self.tokens(query.unflatten(0, (self.C, self.S)).unsqueeze(2), keys[t], t)
            gazes.append(gaze)
            if t == self.T - 1:
                states.append(self.read(reading, tokens, t))
            else:
                states.append(reading.read(tokens, self.real[:, t : t + 1]))
                query = self.connector.predict(states[-1][:, 0])
                queries.append(query)
        return self.output(torch.cat(states, 1), torch.stack(queries, 1).unflatten(0, (self.C, self.S)), gazes)

    def first_query(self) -> torch.Tensor:
        """Return the query of the first frame, [R, D]."""
        if self.model.config.first_query == "learnt" or self.text_hidden is None:
            return self.connector.first_query.expand(self.C * self.S, -1)
        query: torch.Tensor = self.connector.predict(self.text_hidden)
        return query

    def following(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the queries [C, S, T, D] that hidden states [R, T, W] of the frames predict for the frames behind."""
        later = self.connector.predict(hidden[:, :-1])
        rows = torch.cat([self.first_query()[:, None], later], 1)
        queries: torch.Tensor = rows.unflatten(0, (self.C, self.S))
        return queries

    def tokens(self, queries: torch.Tensor, keys: Keys | None = None, frame: int = 0) -> tuple[torch.Tensor, Gaze]:
        """Look at t frames with queries [C, S, t, D]. Return visual tokens [C * S, t, W].

        Args:
            queries: of these frames.
            keys: of these frames; None for all.
            frame: number of the first of them.
        """
        keys = self.keys if keys is None else keys
        S, t = queries.shape[1:3]
        truth = None
        if self.gaze == "oracle":
            if self.inputs.truth is None:
                raise ValueError("an oracle's gaze needs to know where the answer is: the batch has no truth")
            truth = self.inputs.truth[:, :S, frame : frame + t].transpose(1, 2).flatten(0, 1)
        gaze = self.model.encoder.look(
            self.connector.enter(queries.transpose(1, 2).flatten(0, 1)), keys,
            uniform=self.gaze == "uniform", truth=truth, attention=self.look, entropy=self.entropy,
        )  # fmt: skip
        seen = gaze.seen.unflatten(0, (self.C, t)).transpose(1, 2).flatten(0, 1)
        return self.connector.tokens(seen).to(self.model.language.embeddings.dtype), gaze

    def read(self, reading: Reading, tokens: torch.Tensor, frame: int = 0) -> torch.Tensor:
        """Read visual tokens [R, t, W] from a frame on, then the text behind but its last token, whose successor nobody
        asks for."""
        after = self.model.language.embed(self.inputs.after.flatten(0, 1)[:, :-1])
        embeds = torch.cat([tokens, after], 1)
        return reading.read(embeds, torch.cat([self.real[:, frame:], self.after_real[:, :-1]], 1))

    def output(self, hidden: torch.Tensor, queries: torch.Tensor, gazes: list[Gaze]) -> Output:
        """Return what hidden states [R, T + A - 1, W] of the frames and the text behind say."""
        count = self.real.sum(1)  # the last real frame predicts the first token behind
        at_last = hidden[torch.arange(len(hidden), device=hidden.device), (count - 1).clamp(min=0)]
        if self.text_hidden is not None:  # without a frame, the last token in front
            at_last = torch.where(count[:, None] > 0, at_last, self.text_hidden)
        states = torch.cat([at_last[:, None], hidden[:, self.T :]], 1).unflatten(0, (self.C, self.S))
        learnt = self.inputs.learnt
        output = Output(
            learnt=learnt, labels=self.inputs.labels[learnt], logits=self.model.language.logits(states[learnt]),
            queries=queries.expand(-1, self.S, -1, -1),
        )  # fmt: skip
        if self.look:
            attention = zip(*(gaze.attention or [] for gaze in gazes), strict=True)
            output.attention = [self.joined(looks) for looks in attention]
        if self.look or self.entropy:
            entropy = zip(*(() if gaze.entropy is None else gaze.entropy for gaze in gazes), strict=True)
            output.entropy = torch.stack([self.joined(looks) for looks in entropy])
        return output

    def joined(self, looks: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Join measures [C * t, s, ...] of looks at successive frames to [C, S, T, ...]."""
        parts = [x.unflatten(0, (self.C, -1)).transpose(1, 2) for x in looks]
        whole = torch.cat(parts, 2)
        return whole.expand(-1, self.S, *whole.shape[2:])


def another_questions(queries: torch.Tensor, questions: torch.Tensor) -> torch.Tensor:
    """Exchange the queries [C, S, T, D] among questions as :func:`partners` pairs them."""
    exchanged: torch.Tensor = queries.flatten(0, 1)[partners(questions).flatten()].view_as(queries)
    return exchanged


def partners(questions: torch.Tensor) -> torch.Tensor:
    """Return the partner of each question: the next one of its clip, or, where its clip has one question only, the next
    clip's first.

    Args:
        questions: bool [C, S], real questions; the others are their own partners.

    Returns:
        int64 [C, S], places in the flattened questions.
    """
    S = questions.shape[1]
    found = torch.arange(questions.numel()).view(questions.shape)
    real = [row.nonzero().flatten().tolist() for row in questions.cpu()]
    clips = [clip for clip, row in enumerate(real) if row]
    for place, clip in enumerate(clips):
        row, other = real[clip], clips[(place + 1) % len(clips)]
        for number, question in enumerate(row):
            mine = clip * S + row[(number + 1) % len(row)]
            found[clip, question] = mine if len(row) > 1 else other * S + real[other][0]
    return found.to(questions.device)
