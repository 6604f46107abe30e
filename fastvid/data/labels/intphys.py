"""IntPhys 2 (arXiv 2506.09849): videos of possible and of impossible events, in pairs, listed in ``metadata.csv``."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from fastvid.data.labels.delimited import read_delimited

_TYPE = re.compile(r"(\d+)_(Possible|Impossible)")
_GROUPS = ("condition", "difficulty", "camera")
FILE = "metadata.csv"


@dataclass(frozen=True)
class PhysicsPair:
    """A possible and an impossible video of the same scene that otherwise look alike.

    Attributes:
        scene: index of the scene, which has several pairs.
        possible: path of the possible video, below the folder.
        impossible: path of the impossible one.
        groups: what the list says of both, such as ``{"condition": "permanence", "difficulty": "easy"}``.
    """

    scene: str
    possible: str
    impossible: str
    groups: dict[str, str]


def read_intphys(folder: Path) -> list[PhysicsPair]:
    """Read the pairs of a part of IntPhys 2: the videos of a scene whose types have the same number, ``1_Possible`` and
    ``1_Impossible``.

    Args:
        folder: with ``metadata.csv`` and ``Videos/``, as ``Main`` and ``Debug`` are published.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: it does not say which videos are possible, as that of ``HeldOut``; a type that is neither, or a
            video without its pair.
    """
    if not (folder / FILE).is_file():
        parts = sorted(path.parent.name for path in folder.glob(f"*/{FILE}")) if folder.is_dir() else []
        there = f": give one of its folders {', '.join(parts)}" if parts else ", as IntPhys 2 has in Main and Debug"
        raise FileNotFoundError(f"there is no {FILE} in {folder}{there}")
    file = folder / FILE
    table = read_delimited(file, ("file_name", "name"))
    columns = table.columns or []
    if lacking := [name for name in ("sceneindex", "file_name", "type") if name not in columns]:
        raise ValueError(
            f"{file} has no column {' and none '.join(lacking)}: pairs of possible and impossible videos are needed, "
            "which IntPhys 2 publishes for Main and Debug"
        )
    scenes: dict[tuple[str, str], dict[str, dict[str, str]]] = defaultdict(dict)
    for record in table.records:
        row = dict(zip(columns, record.fields, strict=True))
        found = _TYPE.fullmatch(row["type"])
        if found is None:
            raise ValueError(f"{file}, line {record.line}: the type {row['type']!r} is not like 1_Possible")
        pair = scenes[row["sceneindex"], found[1]]
        if found[2] in pair:
            raise ValueError(f"{file}, line {record.line}: scene {row['sceneindex']} has two videos {row['type']}")
        pair[found[2]] = row
    pairs = []
    for (scene, number), pair in scenes.items():
        if len(pair) < 2:
            (only,) = pair
            raise ValueError(f"{file}: scene {scene} has a video {number}_{only} without the other one of its pair")
        possible, impossible = pair["Possible"], pair["Impossible"]
        groups: dict[str, str] = {name: possible[name].lower() for name in _GROUPS if name in columns}
        pairs.append(PhysicsPair(scene, possible["file_name"], impossible["file_name"], groups))
    return pairs
