"""Is one classifier really better than another: tests on the same videos."""

from collections.abc import Sequence

import numpy as np

from fastvid.random import bounded, philox4x32, sample_id, split64

_AT_ONCE = 1 << 20  # random words in memory


def paired_permutation(a: np.ndarray, b: np.ndarray, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided sign-flip permutation test of equal means.

    Under the null hypothesis it is chance which of the two got a video's better score, so every pattern of signs of the
    differences is equally probable; p is the share of patterns whose mean difference is at least as large as the one
    seen.

    Args:
        a: float [n], scores of one classifier in [0, 1], one a video: right or wrong, or a mean over seeds.
        b: float [n], those of the other on the same videos.
        draws: patterns drawn. Where the videos that differ have no more patterns than that, all are enumerated and p is
            exact; else p is (1 + at least as large) / (1 + draws), which cannot be 0.
        seed: of the patterns.

    Raises:
        ValueError: a and b are not of the same, non-zero length.

    Source: Fisher, "The Design of Experiments", 1935, section 21; the estimate of p: Phipson and Smyth, SAGMB 2010.
    """
    differences = _differences(a, b)
    differences = differences[differences != 0]  # a sign makes no difference to these
    n = len(differences)
    seen = abs(differences.sum()) - 1e-9 * max(1, n)  # sums of the same numbers in another order
    if 2**n <= draws:
        patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(abs((1 - 2 * patterns) @ differences) >= seen))
    larger = 0
    for bits in _words("signs", seed, draws, -(-n // 32)):
        signs = np.unpackbits(bits.astype("<u4").view(np.uint8), axis=1, count=n, bitorder="little")
        larger += int(np.sum(abs(differences.sum() - 2 * (signs @ differences)) >= seen))
    return (1 + larger) / (1 + draws)


def paired_bootstrap(a: np.ndarray, b: np.ndarray, draws: int = 2_000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean difference a - b: percentiles over resampled videos.

    Args:
        a: float [n], scores in [0, 1], one a video.
        b: float [n], those of the other on the same videos.
        draws: resamples.
        seed: of the resamples.

    Raises:
        ValueError: a and b are not of the same, non-zero length.

    Source: Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979.
    """
    differences = _differences(a, b)
    n = len(differences)
    means = [differences[bounded(words, n)].mean(axis=1) for words in _words("resamples", seed, draws, n)]
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(low), float(high)


def holm(ps: Sequence[float]) -> list[float]:
    """P values adjusted for their number, in the order given: the chance of even one false discovery among those below
    alpha is at most alpha, whatever their dependence.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    adjusted = [0.0] * len(ps)
    greatest = 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        greatest = max(greatest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = greatest
    return adjusted


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"paired scores are two arrays [n] over the same videos; got {a.shape} and {b.shape}")
    return a - b


def _words(purpose: str, seed: int, draws: int, width: int):
    """Uniform 32-bit words, int64 [some of the draws, width] at a time."""
    blocks = -(-width // 4)
    rows = max(1, _AT_ONCE // (4 * blocks))
    low, high = split64(sample_id(purpose))
    for first in range(0, draws, rows):
        draw = np.arange(first, min(draws, first + rows), dtype=np.int64)[:, None]
        words = philox4x32((np.arange(blocks, dtype=np.int64)[None], draw, low, high), split64(seed))
        yield np.stack(words, axis=-1).reshape(len(draw), 4 * blocks)[:, :width]
