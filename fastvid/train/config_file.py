"""``--config FILE``: a recipe's options from a file, JSON, YAML or TOML, with the keys of a run's ``config.json``."""

import contextlib
import dataclasses
import importlib.util
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tyro

from fastvid.command import UserError
from fastvid.ranges import check_numbers
from fastvid.train.paths import Config


def with_file(base: Config, path: Path) -> Config:
    """Apply the options of a file to a configuration. Options that the file does not name stay.

    Values are read as they would be on the command line. The directory of the run whose ``config.json`` this is stays
    with that run.

    Raises:
        UserError: the file cannot be read, or has a key or a value that this configuration does not take.
    """
    values = _read(path)
    run = values.get("run")
    if path.name == "config.json" and isinstance(run, dict) and run.get("dir") == str(path.absolute().parent):
        values = {**values, "run": {key: value for key, value in run.items() if key != "dir"}}
    options = dict(_options(base, values, path))
    try:
        config = _parse(base, [argument for option in options.values() for argument in option])
        check_numbers(config)
        return config
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except SystemExit:
        for key, option in options.items():
            try:
                _parse(base, option)
            except SystemExit as refused:
                value = " ".join(option[1:])
                raise UserError(f"{path}: {key} does not take {value!r}; see --help for what it takes") from refused
        raise UserError(f"{path}: its options do not go together") from None


def _parse(base: Config, arguments: list[str]) -> Config:
    """Parse options as on the command line, without tyro's output on those that do not fit."""
    with contextlib.redirect_stderr(io.StringIO()):
        return tyro.cli(
            type(base),
            default=base,
            args=arguments,
            config=(tyro.conf.FlagConversionOff, tyro.conf.SuppressFixed),
            console_outputs=False,
        )


def _read(path: Path) -> dict[str, Any]:
    readers: dict[str, Callable[[str], Any]] = {".json": json.loads, ".yaml": _yaml, ".yml": _yaml, ".toml": _toml}
    if path.suffix not in readers:
        raise UserError(f"--config {path}: the name must end in {', '.join(readers)}")
    if not path.is_file():
        raise UserError(f"--config {path}: there is no such file")
    try:
        values = readers[path.suffix](path.read_text())
    except ValueError as error:  # what the readers raise for damaged text
        said = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as {path.suffix[1:].upper()}: {said}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold options by name, such as optim: {{lr: 0.001}}; got {type(values).__name__}")
    return values


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(error) from error


def _toml(text: str) -> Any:
    if importlib.util.find_spec("tomllib") is None:
        raise UserError("TOML is read with Python 3.11 or newer: give --config a JSON or YAML file, or update Python")
    import tomllib

    return tomllib.loads(text)


def _options(base: Any, values: dict[str, Any], path: Path, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield each key with its option as it would be on the command line."""
    fields = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in fields:
            raise UserError(f"{path}: there is no option {key}; --help lists them")
        if dataclasses.is_dataclass(fields[name]):
            if not isinstance(value, dict):
                raise UserError(f"{path}: {key} holds options by name, and not {value!r}")
            yield from _options(fields[name], value, path, f"{key}.")
        elif isinstance(value, dict):
            raise UserError(f"{path}: {key} is one value, and not options by name")
        elif value != fields[name]:
            texts = [str(part) for part in (value if isinstance(value, list) else [value])]
            yield key, [f"--{key.replace('_', '-')}", *texts]
