"""The sweep's command line."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from fastvid.command import UserError, loading
from fastvid.projects.sweep import SEED
from fastvid.ranges import Count, check_numbers
from fastvid.sweep.project_options import ProjectOptions

_TAKEN = {
    "--run.dir": "runs lie in OUT/runs",
    "--resume": "the same command again goes on with what was not finished",
    "--check": "a sweep always begins with it",
    "--detach": "start the sweep itself in the background, with nohup",
    "--accept-changed": "resume the run itself with it",
}


@dataclass(frozen=True)
class SweepConfig:
    """The sweep's own options."""

    out: Path | None = None
    """Folder of the sweep: runs/, runs.csv, compare.html; default: one of its own under sweeps/."""
    gpus: str = "auto"
    """A run at a time on each: auto (all there are), how many, or their numbers by comma, as in 0,1; 0 is the CPU."""
    search: str | None = None
    """Instead of a grid, search these options with Optuna, by comma, for the best of the measure that ranks."""
    trials: Count = 20
    """Runs of a search."""


@dataclass(frozen=True)
class GivenOptions:
    """Options of the project on a sweep's command line.

    Attributes:
        axes: values by option, of those with several values and those that the project always varies.
        fixed: value by option, of those that all runs share.
        given: the options among the axes that were on the command line.
    """

    axes: dict[str, list[str]] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)
    given: frozenset[str] = frozenset()


def parse(project: str, arguments: Sequence[str]) -> tuple[SweepConfig, ProjectOptions, GivenOptions]:
    """Read the command line.

    Returns:
        The sweep's own options, the project's, and those of the project that were given.

    Raises:
        UserError: an option that there is not, a value that it does not take, or one that is the sweep's own business.
    """
    options = ProjectOptions(project)
    config, rest = tyro.cli(
        SweepConfig,
        prog=f"python -m fastvid.sweep {project}",
        description=_description(options),
        args=list(arguments),
        return_unknown_args=True,
        config=(tyro.conf.FlagConversionOff,),
    )
    check_numbers(config)
    return config, options, _given(options, rest, searching=config.search is not None)


def _description(options: ProjectOptions) -> str:
    named = [
        f"{axis.alias or axis.option} (default {','.join(axis.values) or 'as in the preset'})"
        for axis in options.plan.axes
    ]
    return (
        f"Runs {options.name} for every combination of values, ranks them by {options.plan.ranks}, and compares. The "
        "same command again goes on after any stop. Every option of "
        f"`python -m fastvid.train {options.name} --help` can be given here; several values by comma, as in "
        "--optim.lr 1e-4,3e-4, make it an axis. A space separates the words of one value (--data.scale 0.3 1.0,0.5 "
        "1.0); text such as a path is never split: give its option once for each value. Always varied: "
        f"{', '.join(named)}. Can be searched: {','.join(options.plan.search) or 'nothing'}."
    )


def _given(options: ProjectOptions, rest: Sequence[str], *, searching: bool) -> GivenOptions:
    occurrences: dict[str, list[list[str]]] = {}
    written: dict[str, str] = {}
    for part in rest:
        if part.startswith("--"):
            name, equals, value = part.partition("=")
            if name.replace("_", "-") in _TAKEN:
                name = name.replace("_", "-")
                raise UserError(f"{name} is not passed on to the runs: {_TAKEN[name]}")
            option = options.option(name)
            if option in written and written[option] != name:
                raise UserError(f"{name} is given twice: as {written[option]} too")
            written[option] = name
            occurrences.setdefault(option, []).append([value] if equals else [])
        elif not occurrences:
            raise UserError(f"{part!r} is not an option: options begin with --, and lists go by comma")
        else:
            occurrences[option][-1].append(part)
    values = {option: options.split(option, written[option], given) for option, given in occurrences.items()}
    axes: dict[str, list[str]] = {}
    for axis in options.plan.axes:
        default = list(axis.values) if not searching else [axis.search] if axis.search is not None else []
        axes[axis.option] = values.get(axis.option) or default or [options.default(axis.option, {})]
    axes |= {option: found for option, found in values.items() if len(found) > 1}
    axes[SEED] = axes.pop(SEED, []) or values.get(SEED) or [options.default(SEED, {})]  # the last part of names
    fixed = {option: found[0] for option, found in values.items() if option not in axes}
    return GivenOptions(axes, fixed, frozenset(values))


def places(gpus: str) -> list[str | None]:
    """Apply :func:`parse_gpus` on this machine.

    Raises:
        UserError: there are not as many.
    """
    if gpus == "0":
        return [""]
    with loading():
        import torch

    return parse_gpus(gpus, torch.cuda.device_count())


def parse_gpus(text: str, count: int) -> list[str | None]:
    """Parse the GPUs on which runs go at the same time.

    Args:
        text: ``auto``, a number of GPUs, or their numbers by comma.
        count: of GPUs that this process sees.

    Returns:
        Of each place, the value of CUDA_VISIBLE_DEVICES for its runs; None leaves it as it is.

    Raises:
        UserError: there are not as many.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = listed.split(",")[:count] if listed else [str(i) for i in range(count)]
    if text == "auto":
        return [*ids] or [None]
    parts = text.rstrip(",").split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"--gpus {text}: give auto, how many, or their numbers by comma, as in 0,1")
    if "," not in text:
        if int(text) > count:
            raise UserError(f"--gpus {text}: this machine shows {count} GPUs")
        return [*ids[: int(text)]] or [""]
    numbers = [int(part) for part in parts]
    if max(numbers) >= count or len(set(numbers)) < len(numbers):
        raise UserError(f"--gpus {text}: give each GPU once; this machine shows {count}, counted from 0")
    return [ids[number] for number in numbers]
