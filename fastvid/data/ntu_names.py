"""Fields of an NTU RGB+D file name, and the official protocols.

Sources: A. Shahroudy et al., "NTU RGB+D", CVPR 2016, section 3.2 (cross-subject, cross-view); J. Liu et al., "NTU RGB+D
120", TPAMI 2020, section 3.3 (cross-subject of 106 performers).
"""

import re
from dataclasses import dataclass

_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_STREAM = re.compile(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}_(rgb|ir)$", re.IGNORECASE)

LAST_OF_NTU_60 = 60
"""The highest action of NTU RGB+D; higher ones belong to NTU RGB+D 120."""

TRAINING_PERFORMERS_60 = frozenset((1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38))
"""Training performers of the cross-subject protocol of NTU RGB+D; all other performers are tested."""

TRAINING_PERFORMERS_120 = TRAINING_PERFORMERS_60 | {
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95,
    97, 98, 100, 103,
}  # fmt: skip
"""Training performers of the cross-subject protocol of NTU RGB+D 120."""

TRAINING_CAMERAS = frozenset((2, 3))
"""Training cameras of the cross-view protocol; camera 1 is tested."""


@dataclass(frozen=True)
class NtuName:
    """The numbers in a name such as ``S001C002P003R002A013_rgb.avi``."""

    setup: int
    camera: int
    performer: int
    replication: int
    action: int

    @property
    def code(self) -> str:
        """Return the code of the action, such as ``A013``."""
        return f"A{self.action:03d}"


def parse_ntu(name: str) -> NtuName | None:
    """Return the numbers in a file's name or path, or None where the name is of another form."""
    match = _NAME.search(name.rpartition("/")[2])
    return None if match is None else NtuName(*map(int, match.groups()))


def stream_of(name: str) -> str | None:
    """Return the kind of a video of NTU RGB+D, from the end of its name: ``"rgb"``, ``"ir"`` (infrared), or None
    where it does not say. Depth maps are PNG files there, and skeletons are ``.skeleton`` files.
    """
    match = _STREAM.search(name.rpartition("/")[2].rpartition(".")[0])
    return None if match is None else match[1].lower()
