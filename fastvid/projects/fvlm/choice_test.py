"""The test of a trained model on multiple-choice questions."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from fastvid.data import ChatFormat, Quarantine
from fastvid.data.loader.decode_ahead import SampleViews, decode_ahead
from fastvid.data.loader.views import Draws
from fastvid.data.sources.choices import ChoiceSource
from fastvid.data.text.choices import LETTERS, Choice
from fastvid.data.worker_pool import default_threads
from fastvid.projects.fvlm.choice_results import Answered
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.multiple_choice import Prompt, score

INSTRUCTION = "Answer with the option's letter from the given choices directly."
"""What a question with letters ends with, as LLaVA's training data has it."""
_TOKENS = "tokens"  # of the answers, beside their likelihoods under each condition


@dataclass(frozen=True)
class ChoiceTest:
    """Asks a model multiple-choice questions.

    Attributes:
        model: in eval mode.
        chat: its chat format.
        conditions: modes, and perhaps :data:`~fastvid.projects.fvlm.multiple_choice.BLIND`.
        letters: whether letters are the answers, and not the options' own words.
        orders: whether options are also listed in every cyclic order; with letters only.
        cast: makes the autocast context of forward passes.
        batch: videos at a time.
        questions: prompts about each video at a time.
    """

    model: FoveatedVLM
    chat: ChatFormat
    conditions: Sequence[str]
    letters: bool
    orders: bool
    cast: Callable[[], AbstractContextManager[object]]
    batch: int
    questions: int

    def __call__(
        self, source: ChoiceSource, indices: Sequence[int], draws: Draws, quarantine: Quarantine
    ) -> Iterator[Answered]:
        """Yield the answered questions about parts of videos, in order.

        Args:
            source: the questions.
            indices: of the parts that are asked about.
            draws: the view of each part.
            quarantine: where videos that do not decode go.
        """
        device = next(self.model.parameters()).device
        stream = decode_ahead(
            source, indices, draws, group=self.batch, threads=default_threads(), device=device
        )  # fmt: skip
        group: list[tuple[int, SampleViews]] = []
        for index, one in zip(indices, stream, strict=True):
            if one.errors:
                quarantine.add(one.sample.key, one.errors[0])
                continue
            quarantine.count_good(one.sample.key)
            group.append((index, one))
            if len(group) == self.batch:
                yield from self._ask(source, group)
                group = []
        if group:
            yield from self._ask(source, group)

    def prompts(self, choice: Choice) -> list[Prompt]:
        """Return a question with its options in the order of the list, and perhaps in every other cyclic order."""
        if not self.letters:
            return [Prompt.of(self.chat, choice.question, choice.options)]
        orders = len(choice.options) if self.orders else 1
        letters = LETTERS[: len(choice.options)]
        found = []
        for order in range(orders):
            listed = [*choice.options[order:], *choice.options[:order]]
            lines = [f"{letter}. {option}" for letter, option in zip(letters, listed, strict=True)]
            question = "\n".join([choice.question, *lines, INSTRUCTION])
            found.append(Prompt.of(self.chat, question, letters, end=False))
        return found

    def _ask(self, source: ChoiceSource, group: Sequence[tuple[int, SampleViews]]) -> Iterator[Answered]:
        """Yield the answered questions about some clips."""
        device = next(self.model.parameters()).device
        pixels = np.stack([one.pixels[0] for _, one in group if one.pixels[0] is not None])
        clips = torch.from_numpy(pixels).to(device)
        shown = torch.tensor([len(set(one.frames[0])) for _, one in group])
        longest = int(shown.max())
        clips, frames = clips[:, :longest], (torch.arange(longest) < shown[:, None]).to(device)
        prompts = [[self.prompts(choice) for choice in source.choices[index]] for index, _ in group]
        flat = [[prompt for orders in row for prompt in orders] for row in prompts]
        found: list[list[dict[str, np.ndarray]]] = [[] for _ in group]  # of each prompt: values by place, by condition
        with self.cast(), torch.no_grad():
            keys = self.model.encode(clips)
            for start in range(0, max(map(len, flat)), self.questions):
                some = [row[start : start + self.questions] for row in flat]
                scores = score(self.model, clips, frames, some, self.conditions, keys=keys)
                values = {name: one.total.cpu().numpy() for name, one in scores.items()}
                values[_TOKENS] = scores[self.conditions[0]].tokens.cpu().numpy()
                for c, row in enumerate(some):
                    found[c] += [{name: value[c, s] for name, value in values.items()} for s in range(len(row))]
        for (index, one), asked, answers in zip(group, prompts, map(iter, found), strict=True):
            for choice, orders in zip(source.choices[index], asked, strict=True):
                rows = list(itertools.islice(answers, len(orders)))
                turned = {name: by_option([row[name] for row in rows], len(choice.options)) for name in rows[0]}
                lengths = turned.pop(_TOKENS)
                yield Answered(choice, one.sample.key, turned, lengths)


def by_option(rows: Sequence[np.ndarray], options: int) -> np.ndarray:
    """Return values [R, O] of the options in the list's order, from values of the places that they stand at in R cyclic
    orders: in order r the first place has option r."""
    return np.stack([np.roll(row[:options], order) for order, row in enumerate(rows)])
