"""Ranking of groups of runs, and significance of their differences.

A group is made of the runs that differ in the seed alone. Groups are ranked by the mean of the project's measure. Where
runs keep the score of each test item, groups are compared in pairs on the same items: each item's score is averaged
over the seeds that both have, a sign-flip permutation test asks whether the mean difference could be chance, and p
values are adjusted for the number of pairs. Items are what is drawn at random here; how much seeds matter beyond that
is shown beside it, as their spread.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fastvid.eval.accuracy import wilson_interval
from fastvid.eval.paired import holm, paired_bootstrap, paired_permutation
from fastvid.projects.sweep import SEED, FinishedRun, Group
from fastvid.sweep.grid import value_words
from fastvid.sweep.project_options import ProjectOptions

ALPHA = 0.05
_MOST_PAIRS = 100  # of more pairs than this, only those of each leader are tested

Condition = tuple[str, ...]


@dataclass
class Pair:
    """Two groups under the same condition.

    Attributes:
        a: the group with the greater mean.
        b: the other.
        seeds: seeds that both have.
        items: number of test items compared.
        difference: difference of the means, a - b, over these seeds and items; nan where they cannot be compared.
        low: lower end of its 95 % paired-bootstrap interval.
        high: upper end.
        p: p-value of the permutation test.
        adjusted: p adjusted for the number of pairs.
        obstacle: why they cannot be compared, or None.
    """

    a: Group
    b: Group
    seeds: list[str]
    items: int = 0
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")
    adjusted: float = float("nan")
    obstacle: str | None = None

    @property
    def significant(self) -> bool:
        """Return whether chance is ruled out at the level :data:`ALPHA`."""
        return self.obstacle is None and self.adjusted < ALPHA


@dataclass(frozen=True)
class Comparison:
    """The groups of a sweep, and the pairs that were compared.

    Attributes:
        options: of the project; they know the order of values, and which measures rank and are tested.
        axes: options in which groups differ, those that they are compared within first.
        groups: by the values of these axes.
        pairs: pairs at equal values of the axes that groups are compared within.
    """

    options: ProjectOptions
    axes: list[str]
    groups: list[Group]
    pairs: list[Pair]

    @property
    def within(self) -> list[str]:
        """Return the axes at whose equal values groups are compared."""
        return [option for option in self.axes if option in self.options.plan.within]

    @property
    def across(self) -> list[str]:
        """Return the axes that are compared."""
        return [option for option in self.axes if option not in self.options.plan.within]

    @property
    def conditions(self) -> list[Condition]:
        """Return the values of the axes ``within`` that there are."""
        return list(dict.fromkeys(self.condition(group) for group in self.groups))

    def condition(self, group: Group) -> Condition:
        """Return a group's values of the axes ``within``."""
        return tuple(group.values[option] for option in self.within)

    def at(self, condition: Condition, measure: str) -> list[Group]:
        """Return the groups of one condition that have a measure, the greatest mean first."""
        found = [(group.mean(measure), group) for group in self.groups if self.condition(group) == condition]
        known = [(mean, group) for mean, group in found if mean is not None]
        return [group for _, group in sorted(known, key=lambda entry: -entry[0])]

    def unit(self, measure: str) -> str:
        """Return the unit of a measure, of runs that have different ones the empty one."""
        units = {found.unit for group in self.groups for found in group.measures(measure)}
        return units.pop() if len(units) == 1 else ""

    def name(self, group: Group) -> str:
        """Return what a group is called among those that it is compared with."""
        words = [value_words(option, group.values[option], self.options) for option in self.across]
        return ", ".join(words) or "all runs"

    def pair(self, a: Group, b: Group) -> Pair | None:
        """Return the pair of two groups, in either order, where it was compared."""
        return next((pair for pair in self.pairs if {id(pair.a), id(pair.b)} == {id(a), id(b)}), None)


def compare(runs: Sequence[FinishedRun], options: ProjectOptions) -> Comparison:
    """Group finished runs, and test the groups in pairs."""
    plan = options.plan
    used = list(dict.fromkeys(option for run in runs for option in run.values if option != SEED))
    named = {axis.option for axis in plan.axes}
    axes = [option for option in used if option in named or len({run.values[option] for run in runs}) > 1]
    axes.sort(key=lambda option: option not in plan.within)
    grouped: dict[tuple[str, ...], list[FinishedRun]] = {}
    for run in runs:
        grouped.setdefault(tuple(run.values[option] for option in axes), []).append(run)
    keys = sorted(
        grouped, key=lambda key: [options.order(option, value) for option, value in zip(axes, key, strict=True)]
    )
    groups = [Group(dict(zip(axes, key, strict=True)), tuple(grouped[key])) for key in keys]
    comparison = Comparison(options, axes, groups, [])
    ranked = [comparison.at(condition, plan.tested) for condition in comparison.conditions]
    with_items = [[g for g in of if all(m.items for m in g.measures(plan.tested))] for of in ranked]
    pairs = [pair for of in with_items for pair in combinations(of, 2)]
    some = pairs if len(pairs) <= _MOST_PAIRS else [(of[0], other) for of in with_items for other in of[1:]]
    comparison.pairs.extend(_test(a, b, plan.tested) for a, b in some)
    tested = [pair for pair in comparison.pairs if pair.obstacle is None]
    if len(some) == len(pairs):
        adjusted = holm([pair.p for pair in tested])
    else:  # leaders were chosen by the same data, so all pairs that might have been count (Bonferroni)
        adjusted = [min(1.0, pair.p * len(pairs)) for pair in tested]
    for pair, p in zip(tested, adjusted, strict=True):
        pair.adjusted = p
    return comparison


def group_interval(group: Group, name: str) -> tuple[float, float] | None:
    """Compute the 95 % interval of a group's mean, or return None where its runs have none.

    Of a share of right answers it is Wilson's, with test items that several seeds share counted once, because three
    answers on an item are not three items. Of any other measure it has the mean ends of the runs' own intervals, which
    is as wide as that of one run, for the same reason.
    """
    measures, mean = group.measures(name), group.mean(name)
    if mean is None:
        return None
    items = [measure.items for measure in measures]
    if all(items) and all(_is_proportion(measure.items, measure.value) for measure in measures):
        count = len({key for of in items for key in of})
        return wilson_interval(mean * count, count)
    lows = [measure.low for measure in measures if measure.low is not None]
    highs = [measure.high for measure in measures if measure.high is not None]
    if len(lows) < len(measures) or len(highs) < len(measures):
        return None
    return statistics.fmean(lows), statistics.fmean(highs)


def _is_proportion(items: Mapping, value: float) -> bool:
    scores = items.values()
    return all(score in (0, 1) for score in scores) and abs(statistics.fmean(scores) - value) < 1e-6


def _test(a: Group, b: Group, measure: str) -> Pair:
    of_a, of_b = ({run.values[SEED]: run.result.measures[measure].items for run in group.runs} for group in (a, b))
    seeds = sorted(of_a.keys() & of_b.keys(), key=int)
    pair = Pair(a, b, seeds)
    if not seeds:
        pair.obstacle = "they have no seed in common"
        return pair
    differ = [seed for seed in seeds if of_a[seed].keys() != of_b[seed].keys()]
    if differ:
        pair.obstacle = f"they were tested on different videos, or on different labels (seed {differ[0]})"
        return pair
    # Where each seed has test items of its own, an item is averaged over those that it was a test item of.
    tests = sorted({test for seed in seeds for test in of_a[seed]})
    scores_a, scores_b = (
        np.array([statistics.fmean(of[seed][test] for seed in seeds if test in of[seed]) for test in tests])
        for of in (of_a, of_b)
    )
    pair.items = len(tests)
    pair.difference = float(scores_a.mean() - scores_b.mean())
    pair.low, pair.high = paired_bootstrap(scores_a, scores_b)
    pair.p = paired_permutation(scores_a, scores_b)
    return pair
