"""Classes whose clips must not be mirrored, because a mirror image belongs to another class."""

import re
from collections.abc import Iterable

_DIRECTIONS = {
    "left", "right", "leftward", "rightward", "leftwards", "rightwards", "clockwise", "anticlockwise",
    "counterclockwise",
}  # fmt: skip


def mirror_changes(classes: Iterable[str], also: Iterable[str] = ()) -> set[str]:
    """Return the classes whose mirrored clips would belong to another class: those whose name says a direction (left,
    right, clockwise and the like, as whole words), such as "Pulling something from left to right" or ``TurnLeft``.

    Args:
        classes: class names.
        also: further classes that the user names.

    Returns:
        What :class:`fastvid.data.ViewDraws` takes as ``no_flip``.

    Raises:
        ValueError: ``also`` names an unknown class.
    """
    classes, also = list(classes), set(also)
    unknown = sorted(also - set(classes))
    if unknown:
        raise ValueError(f"no class is named {unknown[0]!r}: the classes are {', '.join(sorted(classes))}")
    return also | {name for name in classes if _DIRECTIONS & _words(name)}


def _words(name: str) -> set[str]:
    """Return the lower-case words of a name, where a capital after a small letter begins a new one."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return set(re.findall(r"[a-z]+", parted.lower()))
