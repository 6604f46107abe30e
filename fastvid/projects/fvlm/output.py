"""The model's output, and the pairing of questions for controls."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional


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
        ahead: [C, s, T, W], what is known before each frame where queries are predicted, with these queries; s is S, or
            1 in a sequence of its own for all questions. None where that was not read.
        coarse: output of the coarse pass over the same keys, if it was asked for.
    """

    learnt: torch.Tensor
    labels: torch.Tensor
    logits: torch.Tensor
    queries: torch.Tensor
    entropy: torch.Tensor | None = None
    attention: list[torch.Tensor] | None = None
    ahead: torch.Tensor | None = None
    coarse: "Output | None" = None

    @cached_property
    def losses(self) -> torch.Tensor:
        """Return the cross-entropy of each learnt token, [n], in nats; float32, or float64 of such logits."""
        logits = self.logits.to(torch.promote_types(self.logits.dtype, torch.float32))
        return functional.cross_entropy(logits, self.labels, reduction="none")

    @cached_property
    def right(self) -> torch.Tensor:
        """Return whether the likeliest token is the label, bool [n]."""
        return self.logits.argmax(-1) == self.labels

    def spread(self, values: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
        """Return values [n] of the learnt tokens at their places, [C, S, A]."""
        return values.new_full(self.learnt.shape, fill).masked_scatter(self.learnt, values)


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
