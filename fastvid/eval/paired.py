"""Is one model better than another on the same test set, or was it luck? Paired tests and intervals, and Holm's
correction."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastvid.random import bounded, philox4x32, sample_id, split64

_STREAM = 13  # Philox stream
_CHUNK = 1 << 22  # signs, or resampled scores, in memory at a time


def paired_permutation(a: ArrayLike, b: ArrayLike, draws: int = 10_000, seed: int = 0) -> float:
    """Compute the two-sided p-value of Fisher's paired permutation (sign flip) test of equal means.

    If the two models are alike, each difference d_i = a_i - b_i might as well have had the other sign. With the
    statistic S = |sum_i d_i|, p is the share of sign assignments whose S is at least the one seen. Where there are no
    more than ``draws`` of these, 2**m for m differences other than zero, all are counted and p is exact. Otherwise
    ``draws`` random ones are, and

        p = (1 + #{S* >= S}) / (1 + draws),

    which is valid for any number of draws: what was seen is one of the assignments.

    Sources: Fisher, "The design of experiments", 1935, section 21; Phipson and Smyth, "Permutation p-values should
    never be zero", Stat. Appl. Genet. Mol. Biol. 9, 2010.

    Args:
        a: bool or float [n]: each sample's score under one model, such as whether its answer is right.
        b: the same samples' scores under the other.
        draws: at least 1.
        seed: seed of the random assignments.

    Raises:
        ValueError: not two vectors of the same length, not finite, or no draws.
    """
    if draws < 1:
        raise ValueError(f"a permutation test needs at least one draw; got {draws}")
    a, b = _pair(a, b)
    difference = a - b
    difference = difference[difference != 0]
    m, scale = len(difference), float(np.abs(difference).sum())
    if m == 0:
        return 1.0
    least = abs(float(difference.sum())) - 1e-9 * scale  # equal sums may differ in their last digits
    exact = 2**m <= draws
    count = 2**m if exact else draws
    rows = max(1, _CHUNK // m)
    reached = 0
    for start in range(0, count, rows):
        which = np.arange(start, min(start + rows, count), dtype=np.int64)[:, None]
        flipped = (which >> np.arange(m)) & 1 if exact else _bits(seed, which, m)
        reached += int((np.abs((1.0 - 2.0 * flipped) @ difference) >= least).sum())
    return reached / count if exact else (1 + reached) / (1 + count)


def mcnemar_exact(a: ArrayLike, b: ArrayLike) -> float:
    """Compute the two-sided p-value of McNemar's exact test on two classifiers' right and wrong answers.

    Only videos that one has right and the other wrong tell them apart: n of them, of which k speak for the one that has
    fewer. If the two are alike, k is binomial(n, 1/2):

        p = min(1, 2 * sum_{i <= k} C(n, i) / 2**n).

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947, in the exact form: the sign test.

    Args:
        a: bool [n]: whether each answer of one is right.
        b: the same of the other.

    Raises:
        ValueError: not two vectors of the same length, or other values than 0 and 1.
    """
    a, b = _pair(a, b)
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError("McNemar's test is of right and wrong answers: values must be 0 or 1")
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    n = only_a + only_b
    tail, term = 0, 1  # of exact integers, so that neither over- nor underflows
    for i in range(min(only_a, only_b) + 1):
        tail += term
        term = term * (n - i) // (i + 1)
    return min(1.0, 2 * tail / 2**n)


def paired_bootstrap(a: ArrayLike, b: ArrayLike, draws: int = 2_000, seed: int = 0) -> tuple[float, float]:
    """Compute the 95 % percentile interval of the mean difference a - b over resampled samples.

    Source: Efron, "Bootstrap methods: another look at the jackknife", Ann. Statist. 7, 1979.

    Args:
        a: bool or float [n], n at least 1: each sample's score under one model.
        b: the same samples' scores under the other.
        draws: resamples, at least 1.
        seed: seed of the resamples.

    Raises:
        ValueError: not two vectors of the same length with something in them, not finite, or no draws.
    """
    a, b = _pair(a, b)
    n = len(a)
    if draws < 1 or not n:
        raise ValueError(f"a bootstrap needs at least one draw and one sample; got {draws} and {n}")
    difference, rows, means = a - b, max(1, _CHUNK // n), []
    for start in range(0, draws, rows):
        which = np.arange(start, min(start + rows, draws), dtype=np.int64)[:, None]
        means.append(difference[bounded(_words("paired bootstrap", seed, which, n), n)].mean(1))
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(low), float(high)


def holm(ps: Sequence[float]) -> list[float]:
    """Compute Holm's adjusted p-values of several tests: below x, the chance of any false alarm among them is below x.

    With p_(1) <= ... <= p_(m), the adjusted p_(i) is the greatest of min(1, (m - j + 1) p_(j)) over j <= i. Tests need
    not be independent.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.

    Args:
        ps: p-values in [0, 1].

    Returns:
        The adjusted values, in the same order.

    Raises:
        ValueError: a value outside [0, 1].
    """
    if not all(0 <= p <= 1 for p in ps):
        raise ValueError(f"p-values lie in [0, 1]; got {list(ps)}")
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        least = max(least, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = least
    return adjusted


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"paired tests need two scores of each sample; got shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("paired tests need finite scores; got nan or infinity")
    return a, b


def _bits(seed: int, which: np.ndarray, m: int) -> np.ndarray:
    """Draw random bits int64 [draws, m] for draws ``which`` [draws, 1]."""
    words = _words("paired permutation", seed, which, -(-m // 32))
    return ((words[..., None] >> np.arange(32)) & 1).reshape(len(which), -1)[:, :m]


def _words(purpose: str, seed: int, which: np.ndarray, count: int) -> np.ndarray:
    """Draw random words int64 [draws, count] in [0, 2**32) for draws ``which`` [draws, 1]."""
    block = np.arange(-(-count // 4), dtype=np.int64)[None]
    counter = ((_STREAM << 28) + block, which, *split64(sample_id(purpose)))
    words = np.stack(philox4x32(counter, split64(seed)), axis=-1)  # [draws, blocks, 4]
    return words.reshape(len(which), -1)[:, :count]
