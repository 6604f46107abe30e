"""Options that are paths, made absolute so that a run can be resumed from any directory."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_type_hints

from fastvid.command import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
"""The type of a configuration, a tree of dataclasses."""


@dataclass(frozen=True)
class PathOption:
    """Metadata of an option's annotated type: its value is a path, or can be one.

    Attributes:
        kind: ``"path"``: always. ``"data"``: also ``demo`` and URLs, which stay. ``"teacher"``: after ``checkpoint:``,
            or after ``hf:`` where there is such a folder. ``"model"``: where there is such a folder; else a name on the
            Hugging Face hub. ``"share"``: as data, with ``=`` and a number behind it.
    """

    kind: Literal["path", "data", "teacher", "model", "share"] = "path"

    def relative(self, value: str) -> str | None:
        """Return the relative path in a value, or None where there is none."""
        if self.kind == "share":
            return PathOption("data").relative(value.rpartition("=")[0])
        if self.kind == "data" and (value == "demo" or "://" in value):
            return None
        if self.kind == "teacher":
            prefix, _, value = value.partition(":")
            if prefix not in ("checkpoint", "hf") or not value:
                return None
        return None if os.path.isabs(os.path.expanduser(value)) else value

    def absolute(self, value: str, folder: Path) -> str:
        """Return the value with its path, if it has one, made absolute relative to ``folder``."""
        if self.kind == "share" and "=" in value:
            where, _, share = value.rpartition("=")
            return f"{PathOption('data').absolute(where, folder)}={share}"
        if self.kind == "data" and (value == "demo" or "://" in value):
            return value
        prefix, where = "", value
        if self.kind == "teacher":
            kind, _, where = value.partition(":")
            if kind not in ("checkpoint", "hf") or not where:
                return value
            prefix = f"{kind}:"
        path = os.path.normpath(folder / os.path.expanduser(where))
        if (self.kind == "model" or prefix == "hf:") and not os.path.isdir(path):
            return value
        return prefix + path


def with_absolute_paths(config: Config, folder: Path) -> Config:
    """Make the relative paths in a configuration absolute, relative to a folder."""
    changes: dict[str, Any] = {}
    for name, value, option in _fields(config):
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            changes[name] = with_absolute_paths(value, folder)
        elif option is not None and isinstance(value, tuple):
            changes[name] = tuple(option.absolute(one, folder) for one in value)
        elif option is not None and value is not None:
            changes[name] = option.absolute(value, folder)
    return dataclasses.replace(config, **changes)


def check_old_paths(before: Any, config: Any, prefix: str = "--") -> None:
    """Raise an error for relative paths that do not exist here, of a run that did not record where it was started.

    Args:
        before: the run's configuration.
        config: the same with the options of this start; what these changed is theirs.
        prefix: prefix of the options' names.

    Raises:
        UserError: names the option and what to do.
    """
    for name, value, option in _fields(config):
        old, full = getattr(before, name), prefix + name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            check_old_paths(old, value, f"{full}.")
        elif option is not None and isinstance(value, str) and option.kind != "model" and value == old:
            path = option.relative(value)
            if path is not None and not value.startswith("hf:") and not os.path.exists(path):
                raise UserError(
                    f"this run was started with the relative path {full} {value}, from a folder that it did not write "
                    f"down, and there is nothing at {os.path.abspath(path)}: resume it from that folder, or give {full}"
                )


def _fields(config: Any) -> list[tuple[str, Any, PathOption | None]]:
    hints = get_type_hints(type(config), include_extras=True)
    return [(f.name, getattr(config, f.name), _option(hints[f.name])) for f in dataclasses.fields(config)]


def _option(hint: Any) -> PathOption | None:
    for part in getattr(hint, "__metadata__", ()):
        if isinstance(part, PathOption):
            return part
    return next((found for part in get_args(hint) if (found := _option(part)) is not None), None)
