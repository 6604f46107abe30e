"""The runs of a sweep: one for each combination of the axes' values."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from fastvid.projects.sweep import SEED
from fastvid.sweep.project_options import ProjectOptions

_LONGEST = 40  # letters of a value in a folder's name


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        name: name of its folder.
        values: value of each axis by option.
        trial: its number in a search, or None.
    """

    name: str
    values: Mapping[str, str]
    trial: int | None = None


def combinations(axes: Mapping[str, Sequence[str]], options: ProjectOptions) -> list[dict[str, str]]:
    """Return all combinations of the axes' values. Seeds change slowest, so that a comparison exists after the first.

    Args:
        axes: values by option.
        options: the project's, which know the order of values.
    """
    # The axis that changes slowest is the first of a product: the seed, then those that groups are compared within.
    within = options.plan.within
    slowest = sorted(axes, key=lambda option: (option != SEED, option not in within))
    by_order = {
        option: sorted(axes[option], key=lambda value: options.order(option, value))
        if option == SEED or option in within else axes[option]
        for option in slowest
    }  # fmt: skip
    found = product(*by_order.values())
    return [{option: dict(zip(slowest, values, strict=True))[option] for option in axes} for values in found]


def run_name(values: Mapping[str, str], options: ProjectOptions, trial: int | None = None) -> str:
    """Return the name of a run's folder, such as ``lr0.001-mask-ratio0.9-seed0``."""
    titles = [options.title(option) for option in values]
    parts = []
    for option, value in values.items():
        axis = options.axis(option)
        title = options.title(option)
        # Two options may end in the same word, such as optim.lr and teacher.optim.lr.
        label = option.removeprefix("--") if titles.count(title) > 1 else title
        parts.append(axis.folder(value) if axis.folder else f"{label}{value}")
    clean = [re.sub(r"[^A-Za-z0-9.+=_-]+", "-", part).strip("-.")[-_LONGEST:] for part in parts]
    last = f"-trial{trial:04d}" if trial is not None else ""
    return "-".join(clean) + last


def run_words(run: SweepRun, options: ProjectOptions) -> str:
    """Return what messages call a run, such as ``lr 0.001, mask ratio 0.9, seed 0``."""
    words = [value_words(option, value, options) for option, value in run.values.items()]
    return ", ".join([*words, *([f"trial {run.trial}"] if run.trial is not None else [])])


def value_words(option: str, value: str, options: ProjectOptions) -> str:
    """Return what sentences call a value of an axis."""
    axis = options.axis(option)
    return axis.words(value) if axis.words else f"{options.title(option)} {value}"


def in_table_order(runs: Iterable[SweepRun], options: ProjectOptions) -> list[SweepRun]:
    """Sort runs as tables show them: by the values of the axes, the seed last, and by trial."""

    def key(run: SweepRun) -> tuple:
        order = sorted(run.values, key=lambda option: option == SEED)
        return (*(options.order(option, run.values[option]) for option in order), run.trial or 0)

    return sorted(runs, key=key)


def command_line(values: Mapping[str, str], options: ProjectOptions) -> list[str]:
    """Return options as on the command line of ``fastvid.train``."""
    return [part for option, value in values.items() for part in (option, *options.words(option, value))]
