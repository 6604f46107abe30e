"""Which differences between approaches are real.

Approaches are compared at equal amounts of data, on the same test videos: each video's correctness is averaged over the
seeds that both have, a sign-flip permutation test asks whether its mean difference could be chance, and p values are
adjusted by Holm for all pairs together. Videos are what is drawn at random here; how much seeds matter beyond that is
shown beside it, as their spread.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import getitem

import numpy as np

from fastvid.eval.accuracy import wilson_interval
from fastvid.eval.paired import holm, paired_bootstrap, paired_permutation
from fastvid.sweep.grid import PUBLISHED_NAMES, by_amount
from fastvid.sweep.results import CellResult

ALPHA = 0.05


@dataclass(frozen=True)
class Group:
    """The runs of one approach on one amount of data, which differ in the seed.

    Attributes:
        approach: of all of them.
        videos: training videos per class; None for all.
        results: by seed, at least one.
    """

    approach: str
    videos: int | None
    results: tuple[CellResult, ...]

    @property
    def accuracies(self) -> list[float]:
        """Return the accuracies on the test videos, one per seed."""
        return [result.found["test"]["accuracy"] for result in self.results]

    @property
    def accuracy(self) -> float:
        """Return the mean accuracy over seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def deviation(self) -> float | None:
        """Return the standard deviation over seeds, or None for a single one."""
        return statistics.stdev(self.accuracies) if len(self.results) > 1 else None

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % Wilson interval of the mean. Test videos that several seeds share are counted once,
        because three answers on a video are not three videos.
        """
        videos = {key for result in self.results for key in result.found["test"]["keys"]}
        return wilson_interval(self.accuracy * len(videos), len(videos))

    def mean(self, *names: str) -> float | None:
        """Return the mean over seeds of a number in the results, or None where one seed has none."""
        values = [reduce(getitem, names, result.found) for result in self.results]
        return None if None in values else statistics.fmean(values)  # type: ignore[arg-type,type-var]

    @property
    def minutes(self) -> float:
        """Return the minutes of training without features, as the mean over seeds."""
        return statistics.fmean(result.seconds for result in self.results) / 60


@dataclass
class Pair:
    """Two approaches on one amount of data.

    Attributes:
        a, b: the groups; a has the higher accuracy.
        seeds: that both have.
        videos: test videos compared.
        difference: of accuracy, a - b, over these seeds and videos; nan where they cannot be compared.
        low, high: 95 % paired-bootstrap interval of it.
        p: of the permutation test.
        adjusted: p adjusted for the number of pairs.
        refusal: why they cannot be compared, or None.
    """

    a: Group
    b: Group
    seeds: list[int]
    videos: int = 0
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")
    adjusted: float = float("nan")
    refusal: str | None = None

    @property
    def real(self) -> bool:
        """Return whether chance is ruled out at the level :data:`ALPHA`."""
        return self.refusal is None and self.adjusted < ALPHA


@dataclass(frozen=True)
class Comparison:
    """All groups, by approach and amount of data, and all pairs at equal amounts of data."""

    groups: list[Group]
    pairs: list[Pair]

    @property
    def amounts(self) -> list[int | None]:
        """Return the training videos per class, ascending."""
        return sorted({group.videos for group in self.groups}, key=by_amount)

    @property
    def approaches(self) -> list[str]:
        """Return the approaches that have results, in their fixed order."""
        return [name for name in PUBLISHED_NAMES if any(group.approach == name for group in self.groups)]

    def at(self, videos: int | None) -> list[Group]:
        """Return the groups of one amount of data, the most accurate first."""
        return sorted((g for g in self.groups if g.videos == videos), key=lambda g: -g.accuracy)

    def of(self, approach: str) -> list[Group]:
        """Return the groups of one approach, by amount of data."""
        return [g for g in self.groups if g.approach == approach]

    def pair(self, a: Group, b: Group) -> Pair:
        """Return the pair of two groups, in either order."""
        return next(pair for pair in self.pairs if {id(pair.a), id(pair.b)} == {id(a), id(b)})


def compare(results: Sequence[CellResult]) -> Comparison:
    """Group the results, test all pairs, and adjust their p-values together."""
    grouped: dict[tuple[str, int | None], list[CellResult]] = {}
    for result in results:
        grouped.setdefault((result.cell.approach, result.cell.videos), []).append(result)
    order = list(PUBLISHED_NAMES)
    keys = sorted(grouped, key=lambda key: (order.index(key[0]), by_amount(key[1])))
    comparison = Comparison([Group(*key, tuple(grouped[key])) for key in keys], [])
    for videos in comparison.amounts:
        comparison.pairs.extend(_test(a, b) for a, b in combinations(comparison.at(videos), 2))
    tested = [pair for pair in comparison.pairs if pair.refusal is None]
    for pair, adjusted in zip(tested, holm([pair.p for pair in tested]), strict=True):
        pair.adjusted = adjusted
    return comparison


def _test(a: Group, b: Group) -> Pair:
    of_a = {result.cell.seed: _correct(result) for result in a.results}
    of_b = {result.cell.seed: _correct(result) for result in b.results}
    seeds = sorted(of_a.keys() & of_b.keys())
    pair = Pair(a, b, seeds)
    if not seeds:
        pair.refusal = "they have no seed in common"
        return pair
    differ = [seed for seed in seeds if of_a[seed].keys() != of_b[seed].keys()]
    if differ:
        pair.refusal = f"they were tested on different videos, or on different labels (seed {differ[0]})"
        return pair
    # Where each seed has test videos of its own, a video is averaged over those that it was a test video of.
    tests = sorted({test for seed in seeds for test in of_a[seed]})
    scores_a, scores_b = (
        np.array([statistics.fmean(of[seed][test] for seed in seeds if test in of[seed]) for test in tests])
        for of in (of_a, of_b)
    )
    pair.videos = len(tests)
    pair.difference = float(scores_a.mean() - scores_b.mean())
    pair.low, pair.high = paired_bootstrap(scores_a, scores_b)
    pair.p = paired_permutation(scores_a, scores_b)
    return pair


def _correct(result: CellResult) -> dict[tuple[str, str], float]:
    """Return 1 or 0 for each test video and true class."""
    test, classes = result.found["test"], result.found["classes"]
    return {
        (key, classes[label]): float(label == predicted)
        for key, label, predicted in zip(test["keys"], test["labels"], test["predicted"], strict=True)
    }
