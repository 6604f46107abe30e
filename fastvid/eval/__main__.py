"""``python -m fastvid.eval RUN --data.path DATA``: tests a run on other data. Encoders are probed on videos; a run
whose project tests its models in a way of its own, such as answers to questions, is tested in that way."""

import dataclasses
import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import tyro

from fastvid.command import UserError, command, loading, sentence
from fastvid.data.storage.remote import name_of_place, without_secrets
from fastvid.eval.config import EvalConfig, EvalData, IntPhysOptions, RetrievalOptions
from fastvid.eval.options import PROBES
from fastvid.files import write_whole
from fastvid.projects.project import Project
from fastvid.projects.registry import projects
from fastvid.ranges import check_numbers

_PLACES = ("path", "labels", "videos")  # options that say where data is


@command
def main(arguments: list[str]) -> int:
    """Run the command and return the exit code."""
    project, folder = _tested_by_project(arguments)
    options = EvalConfig if project is None else resolve_name(str(project.evaluate_options))
    flags = (tyro.conf.FlagConversionOff,)
    config: Any = tyro.cli(options, prog="python -m fastvid.eval", args=arguments, config=flags)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_numbers(config)
    out = _result_file(config)
    if out.parent.is_dir() and not os.access(out.parent, os.W_OK):  # before the work, and not after it
        raise UserError(f"{out.parent} cannot be written to: give --out a file elsewhere for the results")
    if project is None:
        found = evaluate(config)
    else:
        with loading():
            test = resolve_name(str(project.evaluate))
        found, shown = test(folder, config)
        print(shown)
    result = {"data": _data_name(config.data), **found}
    text = json.dumps(result, indent=1) + "\n"
    try:
        write_whole(out, text.encode())
    except OSError as error:
        print(text)  # the work is not lost
        raise UserError(f"{sentence(error)}, or give --out; the results are printed above") from error
    print(f"written to {out}")
    return 0


def _tested_by_project(arguments: list[str]) -> tuple[Project | None, Path]:
    """Return the project that tests the run among the arguments in its own way, and where the run has saved its model;
    None for a run whose encoders are probed."""
    for place in (Path(argument).expanduser() for argument in arguments if not argument.startswith("-")):
        for project in projects():
            if project.evaluate is not None and (folder := project.saved_in(place)) is not None:
                return project, folder
    return None, Path()


def _data_name(data: Any) -> list[str]:
    """Return the data that the results are of: the videos, the table of their labels and whatever else is named."""
    places = (getattr(data, field.name) for field in dataclasses.fields(data) if field.name in _PLACES)
    return [
        without_secrets(place) if "://" in place else str(Path(place).expanduser().resolve())
        for place in places if place is not None
    ]  # fmt: skip


def _result_file(config: Any) -> Path:
    """Choose the file of the results: a new file, or one that holds results of the same data.

    Raises:
        UserError: --out holds anything else.
    """
    name = _data_name(config.data)
    if config.out is not None:
        if config.out.exists() and _results_of(config.out) != name:
            raise UserError(f"{config.out} exists, and not with results of {name[0]}: give another --out, or remove it")
        return config.out
    asked = getattr(config, "probe", PROBES)
    plain = name_of_place(name[0]) + ("" if tuple(asked) == PROBES else f"-{'-'.join(asked)}")
    out = config.run / f"eval-{plain}.json"
    if not out.exists() or _results_of(out) == name:
        return out
    digest = hashlib.blake2b("\n".join(name).encode(errors="surrogateescape"), digest_size=4).hexdigest()
    return config.run / f"eval-{plain}-{digest}.json"


def _results_of(path: Path) -> list[str] | None:
    """Return the data that a results file is of, or None where it does not say."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return None
    return found.get("data") if isinstance(found, dict) else None


def evaluate(config: EvalConfig) -> dict[str, Any]:
    """Probe the encoders of a run, see :mod:`fastvid.eval.encoders`; or measure its predictor's surprise.

    Raises:
        UserError: the encoders or the videos cannot be used.
    """
    with loading():
        from fastvid.eval.encoders import probe_encoders
        from fastvid.eval.intphys import measure_surprise
    if not config.probe or len(set(config.probe)) < len(config.probe):
        raise UserError("--probe takes one probe or several, each once")
    _refuse_unused(config)
    if "intphys" not in config.probe:
        return probe_encoders(config)
    if len(config.probe) > 1:
        raise UserError("--probe intphys is of pairs of videos without labels: run it alone, and the others without it")
    for project in projects():
        if project.surprise is not None and project.saved_in(config.run) is not None:
            with loading():
                load = resolve_name(project.surprise)
            return measure_surprise(config, load)
    raise UserError(f"{config.run} has no predictor whose surprise could be measured: give the directory of a SALT run")


def _refuse_unused(config: EvalConfig) -> None:
    """Check that every option that was given is read by a probe that is run.

    Raises:
        UserError: one is not.
    """
    data, retrieval, surprise = config.data, config.retrieval, "intphys" in config.probe
    if "retrieval" not in config.probe and retrieval != RetrievalOptions():
        name = "captions" if retrieval.pairs is None else "pairs"
        raise UserError(f"--retrieval.{name} is for --probe retrieval: add that probe, or leave the option out")
    if not surprise and config.intphys != IntPhysOptions():
        raise UserError("--intphys.windows is for --probe intphys: ask for that probe, or leave the option out")
    plain = EvalData(data.path)
    given = [
        field.name for field in dataclasses.fields(data) if getattr(data, field.name) != getattr(plain, field.name)
    ]
    if surprise and given:
        raise UserError(f"--data.{given[0]} is for probes of encoders: leave it out with --probe intphys")
    if data.lists is not None and data.protocol == "auto":
        raise UserError("--data.lists is for official protocols: add --data.protocol ucf101 or hmdb51")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
