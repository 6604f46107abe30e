"""Deciding early which objects persist: how right, beside what can be known by then, and what the decisions save.

Time is counted from a track's birth: column k - 1 of an array [n, T] is what is known after k frames of the track's
life, the frame of its birth included. Where the video has ended by then, floats are nan.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_TELLING = 0.6  # balanced accuracy from which a single frame is held to tell kinds apart


def since_birth(values: ArrayLike, birth: ArrayLike) -> np.ndarray:
    """Shift each row so that it begins with the frame of the track's birth.

    Args:
        values: float [n, T], of each frame of the video.
        birth: int [n], frame of the track's first token, in [0, T).

    Returns:
        float64 [n, T], nan after the end of the video.
    """
    values, birth = np.asarray(values, dtype=np.float64), np.asarray(birth, dtype=np.int64)
    frames = values.shape[1]
    at = birth[:, None] + np.arange(frames)
    shifted = np.take_along_axis(values, np.minimum(at, frames - 1), axis=1)
    return np.where(at < frames, shifted, np.nan)


def balanced_accuracy(answers: ArrayLike, truth: ArrayLike) -> float:
    """Return the mean of the share of right answers among the true and among the false; nan where one has none.

    Args:
        answers: bool [n].
        truth: bool [n].
    """
    answers, truth = np.asarray(answers, dtype=bool), np.asarray(truth, dtype=bool)
    if not truth.any() or truth.all():
        return math.nan
    return float((answers[truth].mean() + (~answers[~truth]).mean()) / 2)


def early_accuracy(probabilities: ArrayLike, persistent: ArrayLike) -> np.ndarray:
    """Compute the balanced accuracy after k frames of a track's life, k = 1 to T.

    Args:
        probabilities: float [n, T] since birth, of persistence; above 0.5 the answer is "persistent".
        persistent: bool [n].

    Returns:
        float64 [T], nan where no track of one of the kinds was born early enough.
    """
    probabilities, persistent = np.asarray(probabilities, dtype=np.float64), np.asarray(persistent, dtype=bool)
    known = ~np.isnan(probabilities)
    return np.array(
        [
            balanced_accuracy(probabilities[known[:, k], k] > 0.5, persistent[known[:, k]])
            for k in range(probabilities.shape[1])
        ]
    )


def early_ceiling(seen: ArrayLike, persistent: ArrayLike, birth: ArrayLike, *, one_frame: float = 0.5) -> np.ndarray:
    """Compute the greatest balanced accuracy that a rule can have after k frames which knows no more than for how long
    a track has been seen by then.

    The rule is told the age at which the track was last seen, a <= k, and answers with the kind for which that age is
    the likelier:

        ceiling(k) = 1/2 sum_a max(P(a | persistent), P(a | transient)),

    with the shares of these very tracks. A model above the ceiling knows something that it should not. Where one frame
    alone tells the kinds apart, by colour say, nothing is known of how much both together tell, and the ceiling is 1:
    that is so where a simple rule on one frame reaches more than 0.6.

    Args:
        seen: bool [n, T], whether the track has a token in each frame of the video.
        persistent: bool [n].
        birth: int [n].
        one_frame: balanced accuracy of a rule on a single frame.

    Returns:
        float64 [T], nan where no track of one of the kinds was born early enough.
    """
    persistent = np.asarray(persistent, dtype=bool)
    alive = since_birth(seen, birth)
    frames = alive.shape[1]
    ceiling = np.full(frames, np.nan)
    for k in range(frames):
        known = ~np.isnan(alive[:, k])
        ages = k - np.argmax(alive[known, k::-1] > 0, axis=1)  # of the last sight within these frames
        kinds = persistent[known]
        if not kinds.any() or kinds.all():
            continue
        shares = [np.bincount(ages[kinds == kind], minlength=frames) / (kinds == kind).sum() for kind in (True, False)]
        ceiling[k] = 1.0 if one_frame > _TELLING else max(one_frame, np.maximum(*shares).sum() / 2)
    return ceiling


@dataclass(frozen=True)
class Decisions:
    """Decisions taken while the video runs: each track's first confident verdict.

    Attributes:
        age: int64 [n], frames of the track's life that were seen when it was decided, from 1; 0 where it never was.
        answers: bool [n], the verdict "persistent"; of undecided tracks, that after the last frame.
        persistent: bool [n], truth.
    """

    age: np.ndarray
    answers: np.ndarray
    persistent: np.ndarray

    @property
    def decided(self) -> np.ndarray:
        """Return whether each track was decided, bool [n]."""
        return self.age > 0

    @property
    def coverage(self) -> float:
        """Return the share of tracks that were decided."""
        return float(self.decided.mean())

    @property
    def mean_age(self) -> float:
        """Return the mean number of frames to a decision, of the decided; nan without any."""
        return float(self.age[self.decided].mean()) if self.decided.any() else math.nan

    @property
    def wrong(self) -> float:
        """Return the share of the decided tracks that were decided wrongly; nan without any."""
        if not self.decided.any():
            return math.nan
        return float((self.answers != self.persistent)[self.decided].mean())

    @property
    def accuracy(self) -> float:
        """Return the balanced accuracy of the verdicts acted on, those of undecided tracks included."""
        return balanced_accuracy(self.answers, self.persistent)

    def as_dict(self) -> dict[str, float | None]:
        """Return plain numbers for JSON; null where there is no decision."""
        return {
            "coverage": self.coverage,
            "mean_frames": None if math.isnan(self.mean_age) else self.mean_age,
            "wrong_early": None if math.isnan(self.wrong) else self.wrong,
            "balanced_accuracy": None if math.isnan(self.accuracy) else self.accuracy,
        }


def decide(probabilities: ArrayLike, persistent: ArrayLike, confidence: float = 0.9) -> Decisions:
    """Decide each track at the first frame at which its verdict is confident.

    Args:
        probabilities: float [n, T] since birth, of persistence.
        persistent: bool [n].
        confidence: least probability of the verdict, in (0.5, 1].
    """
    p, persistent = np.asarray(probabilities, dtype=np.float64), np.asarray(persistent, dtype=bool)
    known = ~np.isnan(p)
    confident = known & (np.maximum(p, 1 - p) >= confidence)
    at, decided = np.argmax(confident, axis=1), confident.any(1)
    last = known.sum(1) - 1
    answers = np.take_along_axis(p, np.where(decided, at, last)[:, None], axis=1)[:, 0] > 0.5
    return Decisions(np.where(decided, at + 1, 0), answers, persistent)


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Find the temperature that minimises the negative log-likelihood of binary logits divided by it.

    Args:
        logits: float [n], of "persistent".
        labels: bool [n].

    Returns:
        A number in [0.05, 20], by golden-section search on its logarithm, in which the function has one minimum.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.
    """
    logits = np.where(np.asarray(labels, dtype=bool), 1.0, -1.0) * np.asarray(logits, dtype=np.float64)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -logits * math.exp(-log_temperature)).mean())

    low, high = math.log(0.05), math.log(20.0)
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def tokens_left(frame: ArrayLike, row: ArrayLike, birth: ArrayLike, decisions: Decisions) -> np.ndarray:
    """Return which tokens are still needed where tracks decided to be transient are dropped, bool [N].

    A track's tokens up to the frame of the decision were needed for it; those after are dropped. Nothing of a track
    held to be persistent is.

    Args:
        frame: int [N], frame of each token.
        row: int [N], the track of each token, as a row of the decisions.
        birth: int [n].
        decisions: of the n tracks.
    """
    frame, row, birth = (np.asarray(values, dtype=np.int64) for values in (frame, row, birth))
    dropped = decisions.decided & ~decisions.answers
    return ~dropped[row] | (frame < (birth + decisions.age)[row])


def above_ceiling(lows: Sequence[float] | np.ndarray, ceiling: Sequence[float] | np.ndarray) -> list[int]:
    """Return the numbers of frames k, from 1, at which even the lower bound of an accuracy is above the ceiling."""
    return [k + 1 for k, (low, most) in enumerate(zip(lows, ceiling, strict=True)) if low > most + 1e-9]
