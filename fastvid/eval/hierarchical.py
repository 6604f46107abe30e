"""Intervals of figures that several runs have on the same videos: runs are resampled, and the videos within each."""

from collections.abc import Callable, Sequence

import numpy as np

_CHUNK = 1 << 22  # numbers in memory at a time


def bootstrap_interval(
    groups: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    draws: int = 2_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute the 95 % percentile interval of a figure's mean over runs.

    What a run draws once, such as its first weights, moves the figure of all its videos alike. So first the runs are
    resampled, with replacement, then the videos of each that was drawn. With one run this is the ordinary bootstrap
    over videos, which says nothing of other seeds.

    Args:
        groups: one array float [n, K] for each run: K numbers of each of its n videos, such as right answers and
            answers.
        statistic: maps their sums over videos, float64 [..., K], to the run's figure [...].
        draws: resamples, at least 1.
        seed: seed of the resamples.

    Raises:
        ValueError: no run, a run without videos, or no draws.

    Sources: Efron, "Bootstrap methods: another look at the jackknife", Ann. Statist. 7, 1979; Davison and Hinkley,
    "Bootstrap methods and their application", 1997, section 3.8.
    """
    groups = [np.asarray(group, dtype=np.float64) for group in groups]
    if not groups or any(group.ndim != 2 or not len(group) for group in groups) or draws < 1:
        raise ValueError("an interval needs at least one run with at least one video, and one draw")
    random = np.random.Generator(np.random.Philox(seed))
    values = np.empty((draws, len(groups)))
    drawn = random.integers(len(groups), size=values.shape)
    for which, group in enumerate(groups):
        places = np.argwhere(drawn == which)
        rows = max(1, _CHUNK // group.size)
        for start in range(0, len(places), rows):
            some = places[start : start + rows]
            sums = group[random.integers(len(group), size=(len(some), len(group)))].sum(1)
            values[tuple(some.T)] = statistic(sums)
    low, high = np.nanquantile(values.mean(1), (0.025, 0.975))
    return float(low), float(high)


def mean_over_runs(groups: Sequence[np.ndarray], statistic: Callable[[np.ndarray], np.ndarray]) -> float:
    """Return the mean over runs of a figure; see :func:`bootstrap_interval`."""
    return float(np.mean([statistic(np.asarray(group, dtype=np.float64).sum(0)) for group in groups]))


def balanced_of_sums(sums: np.ndarray) -> np.ndarray:
    """Return the balanced accuracy [...] from sums [..., 2 C]: right answers of each of C classes, then answers.

    Classes without answers are left out of the mean.
    """
    right, total = np.split(sums, 2, axis=-1)
    with np.errstate(invalid="ignore"):
        return np.nanmean(np.where(total > 0, right / np.maximum(total, 1e-300), np.nan), axis=-1)
