"""Class maps: labels renamed, merged, or left out."""

import re
from collections.abc import Mapping

from fastvid.data.labels.ntu_actions import ACTIONS
from fastvid.data.ntu_names import parse_ntu

OTHERS = "*"
"""The key of a mapping that stands for all labels it does not name."""

PRESETS: dict[str, dict[str, str]] = {
    "ntu-4": {"A008": "sitting down", "A009": "standing up", "A023": "waving", OTHERS: "other"},
}

_CODE = re.compile(r"A(\d{3})")


def class_mapping(classes: str | Mapping[str, str]) -> dict[str, str]:
    """Return a mapping from labels, or action codes of NTU RGB+D, to classes: the given one, or a preset by its name.

    Raises:
        ValueError: there is no such preset, or the mapping is empty.
    """
    if isinstance(classes, str):
        if classes not in PRESETS:
            raise ValueError(f"no preset of classes is named {classes!r}: there is {', '.join(PRESETS)}")
        return dict(PRESETS[classes])
    if not classes or any(not isinstance(text, str) or not text for pair in classes.items() for text in pair):
        raise ValueError(f"classes must map labels to class names, and the names must not be empty; got {classes!r}")
    return dict(classes)


def action_code(name: str, label: str | None) -> str | None:
    """Return the NTU RGB+D action code of a video, from its name, or from a label that is a code or an official
    action."""
    ntu = parse_ntu(name)
    if ntu is not None:
        return ntu.code
    if label is not None and _CODE.fullmatch(label):
        return label
    return f"A{ACTIONS.index(label) + 1:03d}" if label in ACTIONS else None


class ClassChoice:
    """Applies a mapping to one video after the other.

    Args:
        mapping: see :func:`class_mapping`.

    Attributes:
        bucket: the class of everything that the mapping does not name, or None: such videos are left out.
    """

    def __init__(self, mapping: Mapping[str, str]):
        self._mapping = {key: name for key, name in mapping.items() if key != OTHERS}
        self.bucket = mapping.get(OTHERS)
        self._met: set[str] = set()
        self._labels: set[str] = set()

    def of(self, name: str, label: str | None) -> str | None:
        """Return the class of a video, or None to leave it out."""
        for key in (label, action_code(name, label)):
            if key is not None and key in self._mapping:
                self._met.add(key)
                return self._mapping[key]
        if label is not None:
            self._labels.add(label)
        return self.bucket

    def check(self) -> None:
        """Raise ValueError where no video has a label that the mapping names."""
        unmet = sorted(self._mapping.keys() - self._met)
        if unmet:
            there = ", ".join(repr(label) for label in sorted(self._labels | self._met)[:8])
            raise ValueError(
                f"classes name the label {unmet[0]!r}, which no video has; among the labels are {there or 'none'}"
            )
