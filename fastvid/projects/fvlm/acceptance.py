"""The bounds of a run on the demo's clips, fixed in advance, and what it reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastvid.projects.fvlm.controls import COARSE, FINE

COARSE_ALONE = "coarse alone"


@dataclass(frozen=True)
class Criterion:
    """A bound on one measure of the test.

    Attributes:
        task: of the questions.
        measure: "accuracy" of a condition, or "hit rate" of its looks.
        condition: name of the condition.
        bound: least or greatest value.
        kind: which of the two.
        words: what it shows.
    """

    task: str
    measure: Literal["accuracy", "hit rate"]
    condition: str
    bound: float
    kind: Literal["at least", "at most"]
    words: str


def _criteria() -> list[Criterion]:
    found = []
    for task in ("tiles", "chain"):
        found += [
            Criterion(task, "accuracy", FINE, 0.95, "at least", "the model answers"),
            Criterion(task, "accuracy", COARSE, 0.35, "at most", "one static look a frame does not do"),
            Criterion(task, "accuracy", COARSE_ALONE, 0.35, "at most", "nor does it where nothing else is trained"),
            Criterion(task, "hit rate", FINE, 0.9, "at least", "the first layer looks at the tile to read"),
            Criterion(task, "accuracy", "uniform gaze", 0.25, "at most", "without aiming, nothing is read"),
            Criterion(
                task, "accuracy", "another's gaze", 0.25, "at most", "aimed by another question, another tile is"
            ),
        ]
    words = "where to look next depends on what was just seen: queries made in advance do not know"
    found.append(Criterion("chain", "accuracy", "parallel", 0.4, "at most", words))
    return found


CRITERIA = _criteria()
"""The demo's acceptance."""


def judge(
    answers: Mapping[str, Any], looks: Mapping[str, Any], criteria: Sequence[Criterion] = CRITERIA
) -> list[dict[str, Any]]:
    """Compare a run's measures with the criteria.

    Args:
        answers: by condition and task, :meth:`fastvid.projects.fvlm.measures.Answers.as_dict`.
        looks: by pass, :meth:`fastvid.projects.fvlm.evaluation.Looks.as_dict`.
        criteria: what is wanted.

    Returns:
        For each criterion its fields, the ``value``, and whether it is ``met``; value None where the run has not
        measured it, which does not meet it.
    """
    judged = []
    for criterion in criteria:
        task, condition = criterion.task, criterion.condition
        if criterion.measure == "accuracy":
            value = answers.get(condition, {}).get(task, {}).get("accuracy")
        else:
            value = looks.get(condition, {}).get("hits", {}).get(task, {}).get("hit_rate")
        low = criterion.kind == "at least"
        met = value is not None and (value >= criterion.bound if low else value <= criterion.bound)
        judged.append({**vars(criterion), "value": value, "met": bool(met)})
    return judged
