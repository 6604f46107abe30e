"""The options of a project as axes of a sweep: their names, how values are written, and what they make of a preset."""

import contextlib
import dataclasses
import difflib
import io
import shlex
import types
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from fastvid.command import UserError, loading, user_errors
from fastvid.projects import registry
from fastvid.projects.sweep import SEEDS, SweepAxis, SweepPlan
from fastvid.ranges import check_numbers
from fastvid.train.config import to_dict
from fastvid.train.config_file import with_file

_PRESET, _FILE = "--preset", "--config"


class ProjectOptions:
    """The options that ``python -m fastvid.train PROJECT`` takes.

    A value is text as on the command line: its words joined with spaces, in shell quotes where a word needs them.

    Args:
        name: the project's name.

    Attributes:
        plan: how runs of the project are compared.

    Raises:
        UserError: there is no such project, or it cannot be swept.
    """

    def __init__(self, name: str):
        with user_errors(ValueError):
            project = registry.find(name)
        if project.sweep is None:
            able = ", ".join(other.name for other in registry.projects() if other.sweep is not None)
            raise UserError(f"runs of {name} cannot be swept; those of these projects can: {able}")
        self.name = name
        with loading():
            self.plan: SweepPlan = resolve_name(project.sweep)
            self._presets = resolve_name(project.presets)
        self._parsed: dict[tuple[str, str], Any] = {}
        self._known = {axis.option: axis for axis in (SEEDS, *self.plan.axes)}
        self._aliases = {axis.alias: axis.option for axis in self._known.values() if axis.alias is not None}

    @cached_property
    def types(self) -> dict[str, Any]:
        """Return the annotated type of each option."""
        found = {_PRESET: Literal[tuple(self._presets)], _FILE: str}
        return {**found, **_types(type(self._presets["demo"]()), "--")}

    def axis(self, option: str) -> SweepAxis:
        """Return what the project says about an option as an axis."""
        return self._known.get(option, SweepAxis(option))

    def option(self, written: str) -> str:
        """Return the full name of an option.

        Raises:
            UserError: there is none, with the names that are like it.
        """
        written = written.replace("_", "-")
        option = self._aliases.get(written, written)
        if option not in self.types:
            like = difflib.get_close_matches(option, [*self.types, *self._aliases], n=3)
            hint = f": did you mean {' or '.join(like)}?" if like else ""
            raise UserError(f"{written} is not an option of {self.name}{hint}")
        return option

    def is_text(self, option: str) -> bool:
        """Return whether any text is a value, such as a path: commas may be part of it."""
        return _is_text(self.types[option])

    def split(self, option: str, written: str, occurrences: Sequence[Sequence[str]]) -> list[str]:
        """Return the values given for an option.

        A comma separates values, and a space the words of one value: ``--data.scale 0.3 1.0,0.5 1.0`` are two pairs.
        Text is not split at commas; its option is given once for each value.

        Args:
            option: its full name.
            written: its name as it was written, for messages.
            occurrences: the words after each time it was given.

        Raises:
            UserError: gaps, a value given twice, or several times the option of what goes by comma.
        """
        if self.is_text(option):
            wrong = next((words for words in occurrences if len(words) != 1), None)
            if wrong is not None and not _is_sequence(self.types[option]):
                raise UserError(f"{written} takes one value, in quotes where it has spaces; got {len(wrong)}")
            values = [shlex.join(words) for words in occurrences]
        else:
            if len(occurrences) > 1:
                raise UserError(f"{written} is given twice: its values go by comma, as in {written} A,B")
            (words,) = occurrences
            text = " ".join(words)
            if len(words) > 1 and not _is_sequence(self.types[option]):
                raise UserError(
                    f"{written} {text}: {words[1]!r} is not an option: lists go by comma, as in {written} A,B"
                )
            parts = [" ".join(part.split()) for part in text.split(",")]
            if not all(parts) and (len(parts) > 1 or not _is_sequence(self.types[option])):
                raise UserError(f"{written} {text!r}: give a list such as a,b without gaps")
            values = [shlex.join(part.split()) for part in parts]
        none = self.axis(option).none
        values = [none if value == "None" else value for value in values]
        parsed = [self.parse(option, value, written) for value in values]
        twice = [value for i, value in enumerate(values) if parsed[i] in parsed[:i]]
        if twice:
            raise UserError(f"{written}: {', '.join(twice)} is there twice")
        return values

    def words(self, option: str, value: str) -> list[str]:
        """Return a value as on the command line of ``fastvid.train``."""
        return ["None"] if value == self.axis(option).none else shlex.split(value)

    def parse(self, option: str, value: str, written: str | None = None) -> Any:
        """Return a value as the configuration holds it.

        Raises:
            UserError: the option does not take it.
        """
        if (option, value) not in self._parsed:
            self._parsed[option, value] = self._parse(option, value, written or option)
        return self._parsed[option, value]

    def _parse(self, option: str, value: str, written: str) -> Any:
        words, hint = self.words(option, value), self.types[option]
        if _is_text(hint):
            return tuple(words) if _is_sequence(hint) else None if words == ["None"] else " ".join(words)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                return tyro.cli(
                    hint, args=words, config=(tyro.conf.FlagConversionOff, tyro.conf.Positional), console_outputs=False
                )
        except SystemExit:
            choices = _choices(hint)
            takes = f"choose one of {', '.join(map(str, choices))}" if choices else "see --help for what it takes"
            raise UserError(f"{written} does not take {value!r}: {takes}") from None

    def config(self, values: Mapping[str, str]) -> Any:
        """Return the configuration of a run, checked.

        Args:
            values: by option; all others are the preset's.

        Raises:
            UserError: a value is out of its range, or values do not go together.
        """
        for option in values:
            self.option(option)  # a sweep of an earlier version may have one that is no more
        base = self._presets[values.get(_PRESET, "demo")]()
        if _FILE in values:
            base = with_file(base, Path(self.parse(_FILE, values[_FILE])))
        changes = {
            tuple(part.replace("-", "_") for part in option.removeprefix("--").split(".")): self.parse(option, value)
            for option, value in values.items()
            if option not in (_PRESET, _FILE)
        }
        try:
            config = _changed(base, changes)
        except ValueError as error:
            said = " ".join(f"{option} {value}" for option, value in values.items())
            raise UserError(f"{said}: {error}") from error
        check_numbers(config)
        with user_errors(ValueError):
            self.plan.check(config)
        return config

    def fingerprint(self, values: Mapping[str, str]) -> dict:
        """Return what makes two runs the same: the configuration as plain values."""
        return to_dict(self.config(values))

    def default(self, option: str, values: Mapping[str, str]) -> str:
        """Return the value that an option has in a configuration that does not set it."""
        value = self.config(values)
        for part in option.removeprefix("--").split("."):
            value = getattr(value, part.replace("-", "_"))
        if value is None:
            return self.axis(option).none
        return shlex.join(map(str, value if isinstance(value, tuple) else (value,)))

    def order(self, option: str, value: str) -> tuple[float, str]:
        """Return a key that sorts an option's values: by number, as the option's type lists them, or by name. None is
        last.
        """
        if value == self.axis(option).none:
            return (float("inf"), value)
        choices = _choices(self.types[option])
        if choices:
            return (choices.index(value) if value in choices else len(choices), value)
        return (number(value), value)

    def title(self, option: str) -> str:
        """Return what tables call an option."""
        return self.axis(option).title or option.removeprefix("--").split(".")[-1].replace("-", " ")


def number(value: str) -> float:
    """Return a value as a number; 0 where it is none."""
    try:
        return float(value)
    except ValueError:
        return 0.0


def _types(kind: type, prefix: str) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        option, hint = prefix + field.name.replace("_", "-"), hints[field.name]
        if dataclasses.is_dataclass(_bare(hint)):
            found |= _types(_bare(hint), f"{option}.")
        else:
            found[option] = hint
    return found


def _changed(config: Any, changes: Mapping[tuple[str, ...], Any]) -> Any:
    """Return a tree of dataclasses with some leaves changed, all of them at once."""
    inner: dict[str, dict[tuple[str, ...], Any]] = {}
    for (name, *rest), value in changes.items():
        inner.setdefault(name, {})[tuple(rest)] = value
    return dataclasses.replace(
        config,
        **{name: of[()] if () in of else _changed(getattr(config, name), of) for name, of in inner.items()},
    )


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _parts(hint: Any) -> list[Any]:
    """Return the members of a union, or the type itself, without annotations."""
    hint = _bare(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return [part for member in get_args(hint) for part in _parts(member)]
    return [hint]


def _is_sequence(hint: Any) -> bool:
    return any(get_origin(part) is tuple for part in _parts(hint))


def _is_text(hint: Any) -> bool:
    return any(
        part in (str, Path) or (get_origin(part) is tuple and any(_is_text(member) for member in get_args(part)))
        for part in _parts(hint)
    )


def _choices(hint: Any) -> list[str]:
    return [str(choice) for part in _parts(hint) if get_origin(part) is Literal for choice in get_args(part)]
