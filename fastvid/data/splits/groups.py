"""Groups of videos that must stay in one part of a split: cut from one recording, or showing one person."""

import re
from collections.abc import Callable, Iterable

from fastvid.data.labels.lerobot import episode_of
from fastvid.data.ntu_names import parse_ntu

_UCF = re.compile(r"v_([A-Za-z0-9]+_g\d+)_c\d+")

GroupOf = Callable[[str], str | None]


def group_finder(groups: str | None, names: Iterable[str]) -> GroupOf:
    """Return a function from a video's name to its group, or to None where the name says none.

    Args:
        groups: a regular expression with one group, searched in the name (the path without ending); None knows UCF-101
            (``v_Archery_g03_c01`` is of ``Archery_g03``), NTU RGB+D (``S001C002P003R002A013`` is of ``P003``) and the
            episodes of LeRobot data sets (``episode_000003/observation.images.top``).
        names: names of the videos, to check a given expression with.

    Raises:
        ValueError: it is not a regular expression, or some name does not match it.
    """
    if groups is None:
        return _known_group
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise ValueError(f"groups {groups!r} is not a regular expression: {error}") from error
    if pattern.groups != 1:
        raise ValueError(
            f"groups {groups!r} has {pattern.groups} groups in parentheses: exactly one must mark what videos share"
        )

    def given(name: str) -> str | None:
        match = pattern.search(name)
        return None if match is None else match[1]

    require_groups(given, names, f"groups {groups!r}")
    return given


def require_groups(group_of: GroupOf, names: Iterable[str], what: str) -> None:
    """Raise ValueError where a name says no group; ``what`` begins the sentence."""
    names = list(names)
    without = [name for name in names if group_of(name) is None]
    if without:
        raise ValueError(
            f"{what}: the names of {len(without)} of {len(names)} videos say no group, such as {without[0]!r}: give "
            "groups, a regular expression whose one group in parentheses is what videos share: '(subject[0-9]+)', say"
        )


def _known_group(name: str) -> str | None:
    ntu = parse_ntu(name)
    if ntu is not None:
        return f"P{ntu.performer:03d}"
    match = _UCF.search(name.rpartition("/")[2])
    return episode_of(name) if match is None else match[1]
