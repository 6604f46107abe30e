"""The sweep's command line."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from fastvid.command import UserError, loading
from fastvid.ranges import Count, check_numbers

_TAKEN = {
    "--data.videos-per-class": "use --videos-per-class",
    "--run.seed": "use --seed",
    "--run.dir": "runs lie in OUT/runs",
    "--resume": "the same command again goes on with what was not finished",
    "--check": "a sweep always begins with it",
    "--detach": "start the sweep itself in the background, with nohup",
}


@dataclass(frozen=True)
class SweepConfig:
    """Runs a recipe for every combination of approach, videos per class and seed, and compares. The same command again
    goes on after any stop. Options that are not listed here, such as --data.path, are passed on to every run."""

    out: Path | None = None
    """Folder of the sweep: runs/, experiments.csv, json/, tensorboard/, compare.html; default: one of its own
    under sweeps/."""
    approach: str | None = None
    """By comma: head, pooler, lora, pooler+lora, backbone-lora, full; default: the first four; of a search: lora."""
    videos_per_class: str | None = None
    """Training videos of each class, by comma, or all; default: 50,100,200; of a search: 100."""
    seed: str | None = None
    """By comma; default: 0,1,2; of a search: 0."""
    gpus: str = "auto"
    """A run at a time on each: auto (all there are), how many, or their numbers by comma, as in 0,1; 0 is the CPU."""
    search: str | None = None
    """Instead of a grid, search for the options that give the best validation accuracy, with Optuna; by comma: rank,
    alpha, dropout, lr."""
    trials: Count = 20
    """Runs of a search."""


def parse(project: str, arguments: Sequence[str]) -> tuple[SweepConfig, dict[str, list[str]]]:
    """Read the command line.

    Returns:
        The sweep's own options, and those to pass on: values by option name, written with dashes.

    Raises:
        UserError: one to pass on is the sweep's own business, given twice, or no option at all.
    """
    config, rest = tyro.cli(
        SweepConfig,
        prog=f"python -m fastvid.sweep {project}",
        args=list(arguments),
        return_unknown_args=True,
        config=(tyro.conf.FlagConversionOff,),
    )
    check_numbers(config)
    return config, _passed_on(rest)


def command_line(options: dict[str, list[str]]) -> list[str]:
    """Join options to pass on into a command line that :func:`parse` splits again."""
    return [part for name, values in options.items() for part in (name, *values)]


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


def _passed_on(rest: Sequence[str]) -> dict[str, list[str]]:
    options: dict[str, list[str]] = {}
    name = None
    for part in rest:
        if part.startswith("--"):
            name, equals, value = part.partition("=")
            name = name.replace("_", "-")
            if name in _TAKEN:
                raise UserError(f"{name} is not passed on to the runs: {_TAKEN[name]}")
            if name in options:
                raise UserError(f"{name} is given twice")
            options[name] = [value] if equals else []
        elif name is None:
            raise UserError(f"{part!r} is no option: lists go by comma, as in --seed 0,1,2")
        else:
            options[name].append(part)
    return options
