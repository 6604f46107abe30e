"""The result of a run: all measures as plain values, in one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastvid.projects.fvlm.acceptance import COARSE_ALONE, CRITERIA, judge
from fastvid.projects.fvlm.controls import COARSE, FINE, Condition
from fastvid.projects.fvlm.evaluation import Evaluation
from fastvid.projects.fvlm.measures import ALL, Answers, ce_ratio

_WORDS = {
    FINE: "as it was trained",
    COARSE: "one static query for all frames and questions, trained with the fine pass",
    COARSE_ALONE: "a model of its own, trained without a fine pass",
}


@dataclass(frozen=True)
class Sample:
    """A test question and what the model said to it, word by word.

    Attributes:
        key: of the clip.
        question: its words.
        answer: the true one.
        said: answer by pass.
        right: by pass, whether it is the true one, word by word.
    """

    key: str
    question: str
    answer: str
    said: Mapping[str, str]
    right: Mapping[str, bool]


def by_task(answers: Answers, *, intervals: bool = True) -> dict[str, Any]:
    """Return the measures of each task, and of all together, with their intervals unless these are not wanted."""
    return {task: answers.of(task).as_dict(intervals=intervals) for task in (*answers.tasks, ALL)}


def accuracy_by_clip(answers: Answers, keys: Sequence[str]) -> dict[str, float]:
    """Return the share of right words in the answers about each clip, by its key."""
    right, words = answers.by_clip(answers.right, answers.words).T
    clips = np.unique(answers.clip)
    return {keys[clip]: float(r / w) for clip, r, w in zip(clips, right, words, strict=True) if w}


def measured(
    evaluation: Evaluation,
    alone: Evaluation | None,
    conditions: Mapping[str, Condition],
    samples: Sequence[Sample],
    keys: Sequence[str],
    *,
    accepts: bool,
) -> dict[str, Any]:
    """Return all measures of the test clips as plain values.

    Args:
        evaluation: of the model whose fine pass was trained.
        alone: of the model whose coarse pass alone was trained, or None.
        conditions: those of ``evaluation`` beside the fine and the coarse pass.
        samples: some answers.
        keys: of the test clips, by their numbers.
        accepts: whether the clips are the demo's, whose measures have bounds.
    """
    answers = dict(evaluation.answers)
    fine = answers[FINE]
    if alone is not None:
        answers[COARSE_ALONE] = alone.answers[COARSE]
    opponents = {"fair": answers[COARSE], **({"alone": answers[COARSE_ALONE]} if alone is not None else {})}
    values = {name: by_task(one) for name, one in answers.items()}
    looks = {name: one.as_dict() for name, one in evaluation.looks.items()}
    return {
        "questions": len(fine.task), "tokens": looks[FINE]["entropy"]["tokens"],
        "answers": values,
        "words": {name: _WORDS.get(name) or conditions[name].words for name in answers},
        "ratios": {
            task: {name: ce_ratio(one.of(task), fine.of(task)) for name, one in opponents.items()}
            for task in (*fine.tasks, ALL)
        },
        "looks": looks,
        "acceptance": judge(values, looks, CRITERIA) if accepts else [],
        "items": accuracy_by_clip(fine, keys),
        "said": list(samples[0].said) if samples else [], "samples": [vars(sample) for sample in samples],
    }  # fmt: skip
