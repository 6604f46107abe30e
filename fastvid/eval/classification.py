"""Metrics of a classifier's answers: accuracy with its interval, each class, confusion, calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from fastvid.eval.accuracy import Accuracy

_BINS = 15  # of the calibration error


def average_views(logits: torch.Tensor) -> torch.Tensor:
    """Average a classifier's softmax over several views of each video.

    Args:
        logits: [n, V, C].

    Returns:
        Probabilities float32 [n, C]: the mean over views of the softmax.
    """
    return logits.float().softmax(-1).mean(1)


@dataclass(frozen=True)
class ClassScores:
    """One class; its videos are the positives.

    Attributes:
        precision: share of the videos given this class that are of it; nan where none was given it.
        recall: share of this class's videos that were given it; nan where there are none.
        f1: harmonic mean of the two, as 2 TP / (2 TP + FP + FN): 0 where only one of them is nan, nan where both are.
        support: videos of the class.
    """

    precision: float
    recall: float
    f1: float
    support: int

    def as_dict(self) -> dict[str, float | int | None]:
        """Return plain numbers for JSON; null for nan."""
        return {
            "precision": _number(self.precision),
            "recall": _number(self.recall),
            "f1": _number(self.f1),
            "support": self.support,
        }


@dataclass(frozen=True)
class Classification:
    """A classifier's probabilities for n labelled videos, and what follows from them.

    Tensors are on the CPU. Of classes with the same probability the first is the likelier.

    Attributes:
        classes: names of the C classes; a class id is a position here.
        keys: keys of the samples, n.
        labels: int64 [n], true class ids.
        probabilities: float32 [n, C]; rows sum to 1.
        inference_ms_per_clip: how long one clip took; None when it was not measured.

    Raises:
        ValueError: shapes, ids or probabilities that cannot be, or no video at all.
    """

    classes: Sequence[str]
    keys: Sequence[str]
    labels: torch.Tensor
    probabilities: torch.Tensor
    inference_ms_per_clip: float | None = None

    def __post_init__(self):
        n, count = len(self.keys), len(self.classes)
        if len(set(self.classes)) < count:
            raise ValueError(f"class names must differ; got {list(self.classes)}")
        if n == 0:
            raise ValueError("a classification needs at least one labelled video; there is none to score")
        if self.labels.shape != (n,) or self.probabilities.shape != (n, count):
            raise ValueError(
                f"a classification of {n} keys into {count} classes needs labels [{n}] and probabilities "
                f"[{n}, {count}]; got {list(self.labels.shape)} and {list(self.probabilities.shape)}"
            )
        if self.labels.dtype != torch.int64 or not 0 <= int(self.labels.min()) <= int(self.labels.max()) < count:
            raise ValueError(
                f"labels must be int64 class ids in [0, {count}); got {self.labels.dtype} in "
                f"[{self.labels.min()}, {self.labels.max()}]"
            )
        sums = self.probabilities.double().sum(1)
        # Written so that nan fails too.
        bad = ~((self.probabilities >= 0).all(1) & ((sums - 1).abs() < 1e-3))
        if bad.any():
            row = int(bad.nonzero()[0])
            raise ValueError(
                f"the probabilities of {self.keys[row]!r} are {self.probabilities[row].tolist()[:5]}... with sum "
                f"{float(sums[row]):.4g}, so they are none: give softmax outputs, not logits"
            )

    @cached_property
    def predicted(self) -> torch.Tensor:
        """Return the class of greatest probability, int64 [n]."""
        return self.probabilities.argmax(1)

    @cached_property
    def accuracy(self) -> Accuracy:
        return Accuracy.from_predictions(self.predicted, self.labels)

    @cached_property
    def top5(self) -> Accuracy | None:
        """Return how often the label is among the five likeliest classes, or None where there are no more than five."""
        if len(self.classes) <= 5:
            return None
        p = self.probabilities
        of_label = p.gather(1, self.labels[:, None])
        earlier = torch.arange(len(self.classes)) < self.labels[:, None]
        place = ((p > of_label) | ((p == of_label) & earlier)).sum(1)
        return Accuracy(int((place < 5).sum()), len(p))

    @cached_property
    def confusion(self) -> torch.Tensor:
        """Return the confusion matrix, int64 [C, C]: the number of videos of each class (rows) by predicted class
        (columns).
        """
        count = len(self.classes)
        return torch.bincount(self.labels * count + self.predicted, minlength=count * count).unflatten(0, (count, -1))

    @cached_property
    def per_class(self) -> dict[str, ClassScores]:
        """Return the scores of each class, in the order of ``classes``."""
        hits = self.confusion.diagonal().tolist()
        given, support = self.confusion.sum(0).tolist(), self.confusion.sum(1).tolist()
        return {
            name: ClassScores(_share(hit, g), _share(hit, s), _share(2 * hit, g + s), s)
            for name, hit, g, s in zip(self.classes, hits, given, support, strict=True)
        }

    @property
    def macro_f1(self) -> float:
        """Return the mean F1 of the classes that have one: that have a video or were predicted for one."""
        return _mean([scores.f1 for scores in self.per_class.values()])

    @property
    def balanced_accuracy(self) -> float:
        """Return the mean recall of the classes that have videos."""
        return _mean([scores.recall for scores in self.per_class.values()])

    @cached_property
    def nll(self) -> float:
        """Return the mean of -log p(label), in nats. A p below the smallest normal float32, 1.2e-38, counts as that."""
        p = self.probabilities.double().gather(1, self.labels[:, None])
        return float(-p.clamp(min=torch.finfo(torch.float32).tiny).log().mean())

    @cached_property
    def ece(self) -> float:
        """Return the expected calibration error: |accuracy - mean confidence| in 15 bins of equal width, by their share
        of videos.

        Source: Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3; bins open on the left.
        """
        confidence = self.probabilities.max(1).values
        # In float32, where what is printed as 0.8 is 12 / 15 and not a little more.
        bins = ((confidence.float() * _BINS).ceil().long() - 1).clamp(0, _BINS - 1)
        excess = (self.predicted == self.labels).double() - confidence.double()
        sums = torch.zeros(_BINS, dtype=torch.float64).index_add(0, bins, excess)
        return float(sums.abs().sum() / len(confidence))

    def as_dict(self) -> dict[str, Any]:
        """Return the ``test`` object of a run's ``result.json``: plain values, null where a number is not defined."""
        return {
            **self.accuracy.as_dict(),
            "top5": self.top5.value if self.top5 else None,
            "macro_f1": _number(self.macro_f1),
            "balanced_accuracy": _number(self.balanced_accuracy),
            "nll": self.nll,
            "ece": self.ece,
            "per_class": {name: scores.as_dict() for name, scores in self.per_class.items()},
            "confusion": self.confusion.tolist(),
            "keys": list(self.keys),
            "labels": self.labels.tolist(),
            "predicted": self.predicted.tolist(),
            "inference_ms_per_clip": self.inference_ms_per_clip,
        }

    def table(self) -> str:
        """Format the scores for a log: a line for each class, then the total with its interval."""
        width = max(5, *map(len, self.classes))
        lines = [f"{'class':{width}}  precision  recall      F1  videos"]
        for name, s in self.per_class.items():
            cells = f"{_cell(s.precision, 9)}  {_cell(s.recall, 6)}  {_cell(s.f1, 6)}  {s.support:6}"
            lines.append(f"{name:{width}}  {cells}")
        total = f"accuracy {self.accuracy} of {self.accuracy.total} videos"
        if self.top5:
            total += f", top-5 {self.top5}"
        return "\n".join([*lines, f"{total}, macro F1 {_cell(self.macro_f1, 0)}"])


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _cell(share: float, width: int) -> str:
    """Format a share in per cent."""
    return f"{'-' if math.isnan(share) else f'{100 * share:.1f}':>{width}}"
