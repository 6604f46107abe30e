"""Results of multiple-choice questions: accuracies with intervals, and what they owe to letters and to guessing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastvid.data.text.choices import LETTERS, Choice
from fastvid.eval.accuracy import Accuracy
from fastvid.eval.attention import mean_of_sums
from fastvid.eval.hierarchical import bootstrap_interval
from fastvid.eval.paired import mcnemar_exact
from fastvid.projects.fvlm.measures import ALL
from fastvid.projects.fvlm.multiple_choice import BLIND


@dataclass(frozen=True)
class Answered:
    """A question, and the log-likelihoods of its options.

    Attributes:
        choice: the question.
        key: of the video, or of the part of it.
        total: by condition, float [R, O]: the log-likelihood of each option in each of R orders of the options, of
            which the first is the list's own. In order r, option o stands at place ``(o - r) % O``.
        tokens: int64 [R, O], tokens of the answers that stand for the options.
    """

    choice: Choice
    key: str
    total: Mapping[str, np.ndarray]
    tokens: np.ndarray

    def likelihood(self, condition: str, *, per_token: bool = True) -> np.ndarray:
        """Return the log-likelihood of each option, [R, O]."""
        total = self.total[condition]
        return total / self.tokens if per_token else total


def decided(values: np.ndarray) -> int:
    """Return the number of the greatest value, -1 where several are: a tie says nothing, and counts as wrong."""
    best = np.flatnonzero(values == values.max())
    return int(best[0]) if len(best) == 1 else -1


def measured(asked: Sequence[Answered], conditions: Sequence[str], *, letters: bool) -> dict[str, Any]:
    """Return all measures as plain values.

    Args:
        asked: at least one question.
        conditions: modes, and perhaps :data:`~fastvid.projects.fvlm.multiple_choice.BLIND`.
        letters: whether letters are the answers.
    """
    right = np.array([one.choice.answer for one in asked])
    chosen = {c: np.array([decided(one.likelihood(c)[0]) for one in asked]) for c in conditions}
    by_sum = {c: np.array([decided(one.likelihood(c, per_token=False)[0]) for one in asked]) for c in conditions}
    values: dict[str, Any] = {
        "questions": len(asked), "clips": len({one.key for one in asked}),
        "chance": float(np.mean([1 / len(one.choice.options) for one in asked])),
        "accuracy": {c: _by_group(asked, chosen[c] == right) for c in conditions},
        "undecided": {c: int((chosen[c] < 0).sum()) for c in conditions},
        "ce": {c: _cross_entropy(asked, c) for c in conditions},
    }  # fmt: skip
    if letters:
        values["one_letter"] = _one_letter(right).as_dict()
        values["letters"] = {c: _letters(asked, c) for c in conditions if c != BLIND}
    else:
        values["accuracy_by_sum"] = {c: _by_group(asked, by_sum[c] == right) for c in conditions}
    if BLIND in conditions:
        values["seeing"] = {
            c: {
                "gain": float((chosen[c] == right).mean() - (chosen[BLIND] == right).mean()),
                "p": mcnemar_exact(chosen[c] == right, chosen[BLIND] == right),
            }
            for c in conditions if c != BLIND
        }  # fmt: skip
    values["items"] = [
        {
            "video": one.key, "question": one.choice.question, "answer": int(one.choice.answer),
            "chosen": {c: int(chosen[c][number]) for c in conditions},
        }
        for number, one in enumerate(asked)
    ]  # fmt: skip
    return values


def _by_group(asked: Sequence[Answered], right: np.ndarray) -> dict[str, Any]:
    """Return the accuracy of all questions and of each kind."""
    places: dict[str, list[int]] = {ALL: list(range(len(asked)))}
    for number, one in enumerate(asked):
        for group in dict.fromkeys(one.choice.groups):
            if group != ALL:
                places.setdefault(group, []).append(number)
    return {group: _accuracy(right[rows]).as_dict() for group, rows in places.items()}


def _accuracy(right: np.ndarray) -> Accuracy:
    return Accuracy(int(right.sum()), len(right))


def _cross_entropy(asked: Sequence[Answered], condition: str) -> dict[str, float]:
    """Return the cross-entropy per token of the right answers, with its 95 % interval over clips."""
    sums: dict[str, np.ndarray] = {}
    for one in asked:
        answer = one.choice.answer
        row = np.array([-one.total[condition][0, answer], one.tokens[0, answer]], dtype=np.float64)
        sums[one.key] = sums.get(one.key, 0.0) + row
    rows = np.stack(list(sums.values()))
    low, high = bootstrap_interval([rows], mean_of_sums)
    return {"ce": float(mean_of_sums(rows.sum(0))), "low": low, "high": high}


def _one_letter(right: np.ndarray) -> Accuracy:
    """Return the accuracy of always giving the letter that is right most often."""
    return Accuracy(Counter(right.tolist()).most_common(1)[0][1], len(right))


def _letters(asked: Sequence[Answered], condition: str) -> dict[str, Any]:
    """Return what the answers owe to the places of options.

    Over all cyclic orders each option stands at each place once: what prefers no place chooses all places equally
    often, the same option in every order, and is right in every order or in none.
    """
    places: Counter[int] = Counter()
    averaged, every, same = [], [], []
    for one in asked:
        values = one.likelihood(condition)
        options = values.shape[1]
        picks = [decided(row) for row in values]
        places.update((pick - order) % options for order, pick in enumerate(picks) if pick >= 0)
        averaged.append(decided(values.mean(0)) == one.choice.answer)
        every.append(all(pick == one.choice.answer for pick in picks))
        same.append(len(set(picks)) == 1 and picks[0] >= 0)
    found: dict[str, Any] = {"chosen": _shares(places.elements())}
    if any(len(one.total[condition]) > 1 for one in asked):
        found |= {
            "averaged": _accuracy(np.array(averaged)).as_dict(), "every": _accuracy(np.array(every)).as_dict(),
            "same": _accuracy(np.array(same)).as_dict(),
        }  # fmt: skip
    return found


def _shares(places: Iterable[int]) -> dict[str, float]:
    counts = Counter(places)
    return {LETTERS[place]: counts[place] / counts.total() for place in sorted(counts)}


def as_text(values: Mapping[str, Any]) -> str:
    """Return the measures as a table, and the controls in sentences."""
    accuracy = values["accuracy"]
    conditions = list(accuracy)
    rows = [["accuracy, %", "questions", *conditions]]
    for group, of_first in accuracy[conditions[0]].items():
        rows.append([group, str(of_first["total"]), *(_cell(accuracy[c][group]) for c in conditions)])
    if "accuracy_by_sum" in values:
        cells = [_cell(values["accuracy_by_sum"][c][ALL]) for c in conditions]
        rows.append(["all, by the sum over tokens", str(values["questions"]), *cells])
    for name, words in (("averaged", "options in every order, averaged"), ("every", "right in every order"),
                        ("same", "same option in every order")):  # fmt: skip
        if any(name in values.get("letters", {}).get(c, {}) for c in conditions):
            cells = [_cell(values["letters"][c][name]) if c in values["letters"] else "" for c in conditions]
            rows.append([words, str(values["questions"]), *cells])
    rows.append(["cross-entropy of the right answer", "", *(_ce_cell(values["ce"][c]) for c in conditions)])
    lines = table(rows)
    lines.append(f"chance: {100 * values['chance']:.1f} %")
    if "one_letter" in values:
        lines[-1] += f"; the letter that is right most often, always: {_cell(values['one_letter'])} %"
        for condition, found in values["letters"].items():
            shares = ", ".join(f"{letter} {100 * share:.0f} %" for letter, share in found["chosen"].items())
            lines.append(f"letters chosen, {condition}: {shares or 'none'}")
    for condition, found in values.get("seeing", {}).items():
        gain = f"{100 * found['gain']:+.1f} points"
        lines.append(f"what seeing adds, {condition}: {gain} (McNemar's exact test: p = {found['p']:.2g})")
    for condition, count in values["undecided"].items():
        if count:
            lines.append(f"undecided, {condition}: {count} questions, whose best options tie; counted as wrong")
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines whose columns are aligned, the first to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *rest = widths
    return [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], rest, strict=True))])
        for row in rows
    ]


def _cell(value: Mapping[str, float]) -> str:
    return f"{100 * value['accuracy']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def _ce_cell(value: Mapping[str, float]) -> str:
    return f"{value['ce']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
