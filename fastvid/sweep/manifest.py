"""``sweep.json``: the runs of a sweep, the options they share, and how the next start's are joined to them."""

import json
import shlex
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from fastvid.command import UserError
from fastvid.sweep.grid import SweepRun, combinations, in_table_order, run_name
from fastvid.sweep.options import GivenOptions
from fastvid.sweep.project_options import ProjectOptions

Manifest = dict[str, Any]
FIELDS = {"project", "search", "cells", "starts", "failed", "options"}


def join(
    before: Manifest, options: ProjectOptions, given: GivenOptions, search: dict[str, Any] | None, begun: bool
) -> tuple[Manifest, list[SweepRun]]:
    """Join the options of a start to those of earlier ones.

    Runs of earlier starts stay part of the sweep. A run whose configuration is there already is that run, whatever its
    values look like. An option that becomes an axis gets, for the runs that are there, the value that they share.

    Args:
        before: the manifest, or {} for a new sweep.
        options: the project's.
        given: on the command line.
        search: what a search looks for and where, or None.
        begun: whether some run of the sweep has begun.

    Returns:
        The manifest of this start, and the runs that it asks for; none for a search, whose trials come one by one.

    Raises:
        UserError: what is there was made otherwise.
    """
    if not before:
        before = {"project": options.name, "search": search, "cells": [], "starts": [], "failed": {}, "options": {}}
        begun = False
    elif before["project"] != options.name:
        raise UserError(f"it holds a sweep of {before['project']}")
    elif before["search"] != search:
        held = "another search" if before["search"] and search else "a search" if search is None else "a grid"
        raise UserError(f"it holds {held}")
    axes, shared, runs = dict(given.axes), fixed_of(before), runs_of(before, options)
    fixed = dict(given.fixed)
    if search is None and runs:
        for option in {option: None for run in runs for option in run.values}:
            if option not in axes:
                axes[option] = [fixed.pop(option) if option in fixed else options.default(option, fixed)]
        for option in axes:
            if option not in runs[0].values:
                value = shared.pop(option) if option in shared else options.default(option, shared)
                runs = [SweepRun(run.name, {**run.values, option: value}) for run in runs]
    if begun:
        _check_unchanged(shared, fixed)
    wanted = [] if search is not None else _named(runs, combinations(axes, options), fixed, options)
    every = {run.name: run for run in (*runs, *wanted)}.values()
    words = {option: options.words(option, value) for option, value in fixed.items()}
    return {**before, "options": words, "cells": to_cells(every, options)}, wanted


def fixed_of(manifest: Manifest) -> dict[str, str]:
    """Return the options that all runs share: value by option."""
    return {option: shlex.join(words) for option, words in manifest["options"].items()}


def runs_of(manifest: Manifest, options: ProjectOptions) -> list[SweepRun]:
    """Return all runs of a sweep."""
    return [_from_cell(cell, options) for cell in manifest["cells"]]


def to_cells(runs: Iterable[SweepRun], options: ProjectOptions) -> list[dict]:
    """Return runs as plain values, in the order of the tables."""
    return [
        {"name": run.name, "values": dict(run.values)} | ({} if run.trial is None else {"trial": run.trial})
        for run in in_table_order(runs, options)
    ]


def _named(
    runs: Iterable[SweepRun], wanted: Iterable[Mapping[str, str]], fixed: Mapping[str, str], options: ProjectOptions
) -> list[SweepRun]:
    """Return the wanted runs: those that are there, and new ones with names of their own."""

    def key(values: Mapping[str, str]) -> str:
        return json.dumps(options.fingerprint({**fixed, **values}), sort_keys=True)

    runs = list(runs)
    known = {key(run.values): run for run in runs}
    names = {run.name for run in runs}  # also of one whose values come to those of another run
    found = []
    for values in wanted:
        same = key(values)
        if same not in known:
            plain = run_name(values, options)
            # Long values may look the same in a folder's name.
            name = next(name for i in count(1) if (name := plain if i == 1 else f"{plain}-{i}") not in names)
            names.add(name)
            known[same] = SweepRun(name, values)
        found.append(known[same])
    return list({run.name: run for run in found}.values())


def _check_unchanged(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    changed = [option for option in {**before, **now} if before.get(option) != now.get(option)]
    if changed:
        was, asked = ("; ".join(_said(option, values) for option in changed) for values in (before, now))
        raise UserError(
            f"its runs were started with {was}, now it is {asked}, and runs that differ in more than what is compared "
            "prove nothing"
        )


def _said(option: str, values: Mapping[str, str]) -> str:
    return f"{option} {values[option]}" if option in values else f"no {option}"


def _from_cell(cell: dict, options: ProjectOptions) -> SweepRun:
    if "values" in cell:
        return SweepRun(cell["name"], cell["values"], cell.get("trial"))
    # Before names and values were kept, a cell had the axes' last words as keys, and a trial its further options.
    values = {}
    for axis in options.plan.axes:
        value = cell[axis.option.removeprefix("--").split(".")[-1].replace("-", "_")]
        values[axis.option] = axis.none if value is None else str(value)
    trial = cell.get("trial")
    name = run_name(values, options, trial)
    more = cell.get("options", [])
    return SweepRun(name, values | dict(zip(more[::2], more[1::2], strict=True)), trial)
