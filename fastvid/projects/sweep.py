"""A project as ``python -m fastvid.sweep`` sees it: how a finished run is read, which measure ranks, what varies.

A project needs :func:`SweepPlan.read` and the name of the measure that ranks; everything else has a default.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastvid.report.records import RunRecords

SEED = "--run.seed"  # runs that differ in it alone are one group


@dataclass(frozen=True)
class Measure:
    """A quantity that a run measured.

    Attributes:
        value: the quantity; greater is better where it ranks.
        low: lower end of its 95 % interval, or None.
        high: upper end.
        unit: ``"%"`` where ``value`` is a share in [0, 1], which is then shown in percent; else shown behind it.
        chance: what guessing reaches, or None.
        items: score of each test item by its key, whose mean is ``value``. Groups of runs whose items are the same are
            compared item by item. Empty where only the mean is known.
    """

    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    chance: float | None = None
    items: Mapping[Any, float] = field(default_factory=dict)

    @classmethod
    def accuracy(
        cls, found: Mapping[str, Any], chance: float | None = None, items: Mapping[Any, float] | None = None
    ) -> "Measure":
        """Return the measure of what :meth:`fastvid.eval.accuracy.Accuracy.as_dict` wrote."""
        return cls(found["accuracy"], found["low"], found["high"], "%", chance, items or {})

    def __str__(self) -> str:
        return shown(self.value, self.low, self.high, self.unit)


@dataclass(frozen=True)
class RunResult:
    """The results of a finished run.

    Attributes:
        measures: by name, in the order of the tables' columns.
        curves: by title: x and y, such as optimizer steps and training losses. Shares are in percent.
    """

    measures: Mapping[str, Measure]
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of a sweep.

    Attributes:
        name: name of its folder.
        values: value of each axis by option, as it was given: ``{"--optim.lr": "3e-4"}``.
        trial: its number in a search, or None.
        records: the files of the run.
        result: what the project reads in them.
    """

    name: str
    values: Mapping[str, str]
    trial: int | None
    records: RunRecords
    result: RunResult


@dataclass(frozen=True)
class Group:
    """Finished runs that differ in the seed alone.

    Attributes:
        values: what they share: value of each other axis by option.
        runs: at least one, by seed.
    """

    values: Mapping[str, str]
    runs: tuple[FinishedRun, ...]

    def measures(self, name: str) -> list[Measure]:
        """Return one measure of each run that has it."""
        return [run.result.measures[name] for run in self.runs if name in run.result.measures]

    def numbers(self, name: str) -> list[float]:
        """Return the values of a measure, one per run that has it."""
        return [measure.value for measure in self.measures(name)]

    def mean(self, name: str) -> float | None:
        """Return the mean over seeds, or None where no run has the measure."""
        values = self.numbers(name)
        return statistics.fmean(values) if values else None

    def deviation(self, name: str) -> float | None:
        """Return the standard deviation over seeds, or None for fewer than two."""
        values = self.numbers(name)
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class SweepAxis:
    """An option that a project's sweeps vary unless told otherwise, or that has a name of its own there.

    Attributes:
        option: as on the command line of ``fastvid.train``, such as ``--data.videos-per-class``.
        values: without the option on the command line; empty: the preset's value.
        search: its value in a search; None: the preset's.
        alias: a shorter name, such as ``--videos-per-class``.
        title: what tables and charts call it; default: the option's last part.
        none: what ``None`` is written as, such as ``all``.
        folder: name of a value in the run's folder; default: title and value.
        words: the same in a sentence; default: title, a space and value.
    """

    option: str
    values: tuple[str, ...] = ()
    search: str | None = None
    alias: str | None = None
    title: str | None = None
    none: str = "None"
    folder: Callable[[str], str] | None = None
    words: Callable[[str], str] | None = None


SEEDS = SweepAxis(SEED, alias="--seed")


@dataclass(frozen=True)
class SearchOption:
    """An option that ``--search`` can draw: from ``choices``, or between ``low`` and ``high``.

    Attributes:
        option: as on the command line of ``fastvid.train``.
        choices: values to choose from.
        low: least value, where there are no choices.
        high: greatest value.
        step: distance of the values; None for any.
        log: whether the logarithm is uniform.
        useless: why drawing it is in vain with a configuration, in words, or "".
    """

    option: str
    choices: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 1.0
    step: float | None = None
    log: bool = False
    useless: Callable[[Any], str] = lambda config: ""


@dataclass(frozen=True)
class SweepPlan:
    """The comparison of a project's runs.

    Attributes:
        read: reads a finished run.
        ranks: name of the measure that ranks groups, and that a search maximises. A run without it is not ranked.
        tests: name of the measure whose items are compared in pairs; default: ``ranks``. Where options are chosen by
            a measure of validation videos, this one is of the test videos.
        result_file: file that a finished run leaves, without which it is run again; None: its status is enough.
        axes: options with defaults or names of their own. All other options of the project can be axes too.
        within: options at whose equal values groups are compared, such as the amount of data.
        shared: options that name a folder which runs share, and its name in the sweep's folder.
        search: options that can be searched, by their names there.
        check: raises ValueError for a configuration whose runs could not be ranked.
        files: ``files(out, runs)`` writes further files of all finished runs into the sweep's folder.
        sections: ``sections(groups, name)`` returns further sections of compare.html, HTML by title; ``name(group)``
            is what the page calls a group.
    """

    read: Callable[[RunRecords], RunResult]
    ranks: str
    tests: str | None = None
    result_file: str | None = None
    axes: tuple[SweepAxis, ...] = (SEEDS,)
    within: tuple[str, ...] = ()
    shared: Mapping[str, str] = field(default_factory=dict)
    search: Mapping[str, SearchOption] = field(default_factory=dict)
    check: Callable[[Any], None] = lambda config: None
    files: Callable[[Path, Sequence[FinishedRun]], None] = lambda out, runs: None
    sections: Callable[[Sequence[Group], Callable[[Group], str]], dict[str, str]] = lambda groups, name: {}

    @property
    def tested(self) -> str:
        """Return the name of the measure whose items are compared."""
        return self.tests or self.ranks


def shown(value: float, low: float | None = None, high: float | None = None, unit: str = "") -> str:
    """Format a value with its interval, such as ``81.2 % [76.0, 85.5]``."""
    scale, form, behind = (100, ".1f", " %") if unit == "%" else (1, ".4g", f" {unit}" if unit else "")
    interval = "" if low is None or high is None else f" [{scale * low:{form}}, {scale * high:{form}}]"
    return f"{scale * value:{form}}{behind}{interval}"
