"""Log-likelihoods of given answers: a question with its options is read once in each mode, the frames once in all."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fastvid.data import ChatFormat
from fastvid.data.text.chat import IGNORED
from fastvid.projects.fvlm.encoder import Keys
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.language import Reading
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Kind
from fastvid.projects.fvlm.output import Output
from fastvid.projects.fvlm.passes import Pass

BLIND = "no frames"
"""The condition in which a question is answered without its video."""


@dataclass(frozen=True)
class Prompt:
    """A question, and the answers that are compared.

    Attributes:
        before: token ids in front of the video.
        front: token ids behind it, up to where an answer begins.
        options: token ids of each answer, at least one each.
    """

    before: Sequence[int]
    front: Sequence[int]
    options: Sequence[Sequence[int]]

    @classmethod
    def of(cls, chat: ChatFormat, question: str, options: Iterable[str], *, end: bool = True) -> "Prompt":
        """Return a question and its answers as a chat format lays them out.

        Args:
            chat: the format.
            question: its words.
            options: answers in words.
            end: whether the token that ends an answer is a part of it.
        """
        before, front = chat.prompt(question)
        return cls(before, front, [chat.answer(option, end=end) for option in options])


@dataclass(frozen=True)
class Scores:
    """Log-likelihoods of the answers of C clips with S questions of O options.

    Attributes:
        total: float32 [C, S, O], sum over an answer's tokens, in nats; -inf where there is no option.
        tokens: int64 [C, S, O], tokens of each.
        greedy: bool [C, S, O], whether each token of an answer is the likeliest one.
    """

    total: torch.Tensor
    tokens: torch.Tensor
    greedy: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        """Return the log-likelihood per token, float32 [C, S, O]."""
        return self.total / self.tokens.clamp(min=1)


@torch.no_grad()
def score(
    model: FoveatedVLM,
    clips: torch.Tensor,
    frames: torch.Tensor,
    prompts: Sequence[Sequence[Prompt]],
    conditions: Sequence[str],
    *,
    keys: Keys | None = None,
) -> dict[str, Scores]:
    """Compute the log-likelihood of every answer under every condition.

    Frames are encoded once for all of them. What stands in front of the video is read once; the frames and what stands
    between them and an answer, once in each mode; then all answers go on from there in one call.

    Args:
        model: in eval mode.
        clips: uint8 [C, T, H, W, 3].
        frames: bool [C, T], which of them are real.
        prompts: questions about each clip.
        conditions: modes, and :data:`BLIND`.
        keys: of the clips, if they are computed already.

    Returns:
        The scores of each condition, on the device of the clips.
    """
    device = clips.device
    inputs = _inputs(clips, frames, prompts)
    options, mask = _options(prompts, device)
    keys = model.encode(clips) if keys is None else keys
    step = _Asking(model, inputs, keys, "learnt")
    found: dict[str, tuple[Output, Reading]] = {}
    if BLIND in conditions:
        blind = copy.copy(step)  # it has read what stands in front of the video already
        blind.inputs, blind.real, blind.T = replace(inputs, frames=frames[:, :0]), step.real[:, :0], 0
        found[BLIND] = blind.text_alone(), blind.reading
    if "parallel" in conditions:
        output = step.run("parallel", coarse="coarse" in conditions)
        found["parallel"] = output, step.reading
        if output.coarse is not None and step.coarse_reading is not None:
            found["coarse"] = output.coarse, step.coarse_reading
    elif "coarse" in conditions:
        found["coarse"] = step.coarse(), step.reading
    if "stream" in conditions:
        found["stream"] = step.stream(), step.reading
    if unknown := [one for one in conditions if one not in found]:
        raise ValueError(f"no conditions {unknown}: choose modes, or {BLIND!r}")
    asked = list(dict.fromkeys(conditions))
    scores = _continued(model, [found[one] for one in asked], inputs.questions, options, mask)
    return dict(zip(asked, scores, strict=True))


class _Asking(Pass):
    """Passes that keep the reading of the last answer's row, for what goes on from there."""

    goes_on = True
    reading: Reading
    coarse_reading: Reading | None = None

    def read(self, reading: Reading, *arguments: Any, **options: Any) -> torch.Tensor:
        self.reading = reading
        return super().read(reading, *arguments, **options)

    def output(self, hidden: torch.Tensor, *arguments: Any, **options: Any) -> Output:
        # In bfloat16 the logits of letters often tie.
        with torch.autocast(hidden.device.type, enabled=False):
            return super().output(hidden.to(self.model.language.embeddings.dtype), *arguments, **options)

    def answer(self, kind: Kind, queries: torch.Tensor, ahead: bool = False) -> Output:
        # Never together with the sequence that queries are predicted from: that would leave no reading.
        found = super().answer(kind, queries)
        if kind == "coarse":
            self.coarse_reading = self.reading
        return found


def _continued(
    model: FoveatedVLM,
    found: Sequence[tuple[Output, Reading]],
    questions: torch.Tensor,
    options: torch.Tensor,
    mask: torch.Tensor,
) -> list[Scores]:
    """Return the scores of the options of each question under each condition.

    Args:
        model: the model.
        found: of each condition the output with the logits [n, V] of the first token of an answer to each real
            question, and the reading in front of it, a row for each question.
        questions: bool [C, S], real ones.
        options: int64 [C, S, O, L].
        mask: bool, likewise: tokens of answers.
    """
    width, length = options.shape[2:]
    # Rows of tokens, [conditions * n * O, L].
    ids, real = (x[questions].flatten(0, 1).repeat(len(found), 1) for x in (options, mask))
    first = torch.cat([output.logits for output, _ in found])
    places = torch.arange(len(first), device=first.device).repeat_interleave(width)
    total = _log_likelihood(first, places, ids[:, 0])
    greedy = first.argmax(-1)[places] == ids[:, 0]
    kept = real[:, 1:].any(1)  # what has one token is done
    if length > 1 and kept.any():
        rows = questions.flatten().nonzero().flatten().repeat_interleave(width)
        each_kept = kept.chunk(len(found))
        reading = Reading.joined([(read, rows[some]) for (_, read), some in zip(found, each_kept, strict=True)])
        hidden = reading.read(model.language.embed(ids[kept, :-1]), real[kept, :-1])
        wanted = real[kept, 1:]
        with torch.autocast(hidden.device.type, enabled=False):  # see _Asking.output
            logits = model.language.logits(hidden[wanted].to(model.language.embeddings.dtype))
        later = ids[kept, 1:][wanted]
        each = _log_likelihood(logits, torch.arange(len(later), device=later.device), later)
        spread = total.new_zeros(wanted.shape).masked_scatter(wanted, each)
        right = torch.ones_like(wanted).masked_scatter(wanted, logits.argmax(-1) == later)
        total[kept] += spread.sum(1)
        greedy[kept] &= right.all(1)
    there = real[:, 0]
    shape, where = questions.shape, questions[..., None].expand(-1, -1, width)

    def placed(values: torch.Tensor, fill: float) -> list[torch.Tensor]:
        return [values.new_full((*shape, width), fill).masked_scatter(where, x) for x in values.chunk(len(found))]

    columns = (
        placed(total.masked_fill(~there, -torch.inf), -torch.inf), placed(real.sum(1), 0), placed(greedy & there, False)
    )  # fmt: skip
    return [Scores(*each) for each in zip(*columns, strict=True)]


def _log_likelihood(logits: torch.Tensor, rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of tokens [n] by rows of logits [m, V], float32 [n]."""
    logits = logits.float()
    found: torch.Tensor = logits[rows, ids] - logits.logsumexp(-1)[rows]
    return found


def _inputs(clips: torch.Tensor, frames: torch.Tensor, prompts: Sequence[Sequence[Prompt]]) -> Inputs:
    """Return a model's inputs whose one label of each question stands where its answer begins."""
    C, S = len(prompts), max(map(len, prompts))
    P = max((len(prompt.before) for row in prompts for prompt in row), default=0)
    A = max((len(prompt.front) for row in prompts for prompt in row), default=0) + 1
    before, after = torch.zeros(C, S, P, dtype=torch.int64), torch.zeros(C, S, A, dtype=torch.int64)
    before_mask, after_mask = torch.zeros(C, S, P, dtype=torch.bool), torch.zeros(C, S, A, dtype=torch.bool)
    labels, questions = torch.full((C, S, A), IGNORED), torch.zeros(C, S, dtype=torch.bool)
    for c, row in enumerate(prompts):
        for s, prompt in enumerate(row):
            p, a = len(prompt.before), len(prompt.front)
            before[c, s, P - p :] = torch.tensor(prompt.before, dtype=torch.int64)
            before_mask[c, s, P - p :] = True
            after[c, s, :a] = torch.tensor(prompt.front, dtype=torch.int64)
            after_mask[c, s, :a] = True
            labels[c, s, a], questions[c, s] = 0, True
    found = Inputs(clips, frames, questions, before, before_mask, after, after_mask, labels)
    return replace(found, **{name: x.to(clips.device) for name, x in vars(found).items() if x is not None})


def _options(prompts: Sequence[Sequence[Prompt]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids of all options, int64 [C, S, O, L] padded on the right, and which of them are real."""
    C, S = len(prompts), max(map(len, prompts))
    every = [option for row in prompts for prompt in row for option in prompt.options]
    width = max(len(prompt.options) for row in prompts for prompt in row)
    ids = torch.zeros(C, S, width, max(map(len, every)), dtype=torch.int64)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for c, row in enumerate(prompts):
        for s, prompt in enumerate(row):
            for o, option in enumerate(prompt.options):
                ids[c, s, o, : len(option)] = torch.tensor(option)
                mask[c, s, o, : len(option)] = True
    return ids.to(device), mask.to(device)
