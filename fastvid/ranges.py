"""Ranges of numeric options: annotated on the type, and checked in one place."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints

from fastvid.command import UserError


@dataclass(frozen=True)
class Range:
    """The numbers that an option takes, as metadata of its annotated type.

    Attributes:
        low: least one, or None.
        high: greatest one, or None.
        open: whether ``low`` itself is excluded.
        open_high: whether ``high`` itself is.
    """

    low: float | None = None
    high: float | None = None
    open: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        if self.low is not None and not (value > self.low if self.open else value >= self.low):
            return False
        return self.high is None or (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        parts = []
        if self.low is not None:
            parts.append(f"above {self.low:g}" if self.open else f"at least {self.low:g}")
        if self.high is not None:
            parts.append(f"below {self.high:g}" if self.open_high else f"at most {self.high:g}")
        return " and ".join(parts)


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, open=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
ShareAboveZero = Annotated[float, Range(0, 1, open=True)]


def check_numbers(config: Any) -> None:
    """Check all numbers of a configuration, a tree of dataclasses, against the ranges of their options. Every number
    must be finite.

    Raises:
        UserError: one does not fit; named as on the command line.
    """
    for option, value, allowed in _numbers(config, "--"):
        if not math.isfinite(value):
            raise UserError(f"{option} must be a finite number; got {value}")
        if allowed is not None and value not in allowed:
            raise UserError(f"{option} must be {allowed}; got {value}")


def _numbers(config: Any, prefix: str) -> Iterator[tuple[str, float, Range | None]]:
    hints = get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value, option = getattr(config, field.name), prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            yield from _numbers(value, f"{option}.")
            continue
        allowed = _range(hints[field.name])
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield option, number, allowed


def _range(hint: Any) -> Range | None:
    """Return the range in an annotated type, also of an optional one or of the elements of a tuple."""
    for part in getattr(hint, "__metadata__", ()):
        if isinstance(part, Range):
            return part
    return next((found for part in get_args(hint) if (found := _range(part)) is not None), None)
