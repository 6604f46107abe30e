"""Measures of answers: cross-entropy and accuracy by task, and the ratios of the coarse pass to the fine one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fastvid.eval.attention import mean_of_sums
from fastvid.eval.hierarchical import bootstrap_interval
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.output import Output
from fastvid.report.records import RunRecords

ALL = "all"  # the row of all tasks together
_RECENT = 100  # records of training that the legacy ratio is the mean of


@dataclass(frozen=True)
class Answers:
    """A model's answers to n questions.

    A token counts as right where it is the most probable one after the true ones before it.

    Attributes:
        clip: int64 [n], the question's clip; clips are what is resampled.
        task: its task, n names.
        loss: float64 [n], sum of the cross-entropies of the answer's tokens and its end, in nats.
        tokens: int64 [n], how many these are.
        right: int64 [n], right tokens of the answer, without its end.
        words: int64 [n], tokens of the answer without its end.
    """

    clip: np.ndarray
    task: Sequence[str]
    loss: np.ndarray
    tokens: np.ndarray
    right: np.ndarray
    words: np.ndarray

    @property
    def tasks(self) -> list[str]:
        """Return the tasks that occur, sorted."""
        return sorted(set(self.task))

    def of(self, task: str) -> "Answers":
        """Return the answers to the questions of a task; :data:`ALL` for all of them."""
        if task == ALL:
            return self
        kept = np.array([name == task for name in self.task])
        arrays = (getattr(self, name)[kept] for name in ("loss", "tokens", "right", "words"))
        return Answers(self.clip[kept], [task] * int(kept.sum()), *arrays)

    def by_clip(self, *values: np.ndarray) -> np.ndarray:
        """Return sums float64 [clips, K] of K values of each question."""
        clips, place = np.unique(self.clip, return_inverse=True)
        return np.stack([np.bincount(place, value, minlength=len(clips)) for value in values], 1)

    def as_dict(self, *, intervals: bool = True) -> dict[str, Any]:
        """Return cross-entropy per token and accuracy per word, each with its 95 % interval over clips unless that is
        not wanted, and the share of answers that are right in every word."""
        found: dict[str, Any] = {"questions": len(self.task), "clips": len(np.unique(self.clip))}
        for name, value, count in (("ce", self.loss, self.tokens), ("accuracy", self.right, self.words)):
            rows = self.by_clip(value, count)
            found[name] = float(mean_of_sums(rows.sum(0)))
            if intervals:
                found[f"{name}_low"], found[f"{name}_high"] = bootstrap_interval([rows], mean_of_sums)
        return {**found, "exact": float((self.right == self.words).mean())}


def joined(parts: Sequence[Answers]) -> Answers:
    """Return the answers of several batches as one."""
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("clip", "loss", "tokens", "right", "words")
    }
    return Answers(task=[name for part in parts for name in part.task], **arrays)


def answers_of(output: Output, inputs: Inputs, clips: Sequence[int], tasks: Sequence[str], end: int) -> Answers:
    """Score the answers to the real questions of a batch, in order.

    Args:
        output: what the model said.
        inputs: the batch.
        clips: number of each clip.
        tasks: task of each real question.
        end: id of the end token.
    """
    words = output.learnt & (output.spread(output.labels, -100) != end)
    right = output.spread(output.right, False) & words
    loss = output.spread(output.losses.detach().double())
    real = inputs.questions
    place = torch.as_tensor(clips)[:, None].expand(real.shape)[real.cpu()]
    sums, *counts = (values.sum(-1)[real].cpu().numpy() for values in (loss, output.learnt, right, words))
    return Answers(place.numpy(), tasks, sums, *counts)


def ce_ratio(coarse: Answers, fine: Answers) -> dict[str, float | None]:
    """Compute the coarse pass's cross-entropy over the fine one's, on the same questions, with its 95 % interval.

    Clips are resampled, each with both of its cross-entropies. The ratio is fair where both passes were trained; above
    1 the second look is of use.
    """
    rows = np.concatenate([coarse.by_clip(coarse.loss), fine.by_clip(fine.loss)], 1)
    low, high = bootstrap_interval([rows], mean_of_sums)
    return {"ratio": float(mean_of_sums(rows.sum(0))), "low": low, "high": high}


def legacy_ratio(run: RunRecords, stage: str) -> float | None:
    """Return the ratio that earlier foveated models were judged by: the mean over the last records of training of the
    coarse loss over the fine loss; None where one of them was not recorded.

    It was measured while the coarse pass had no part in the loss. Then it compares a trained pass with an untrained one
    and says nothing of looking.
    """
    _, coarse = run.series(stage, "coarse_loss")
    _, fine = run.series(stage, "fine_loss")
    if not coarse or len(coarse) != len(fine):
        return None
    recent = [c / f for c, f in zip(coarse[-_RECENT:], fine[-_RECENT:], strict=True) if f > 0]
    return math.fsum(recent) / len(recent) if recent else None
