"""NTU RGB+D: the action is in the file name."""

from pathlib import Path

from fastvid.data.labels.ntu_actions import ACTIONS
from fastvid.data.ntu_names import parse_ntu
from fastvid.data.pack.folder import video_files
from fastvid.data.pack.item import Collection, collect, file_item
from fastvid.data.walk import such_as


def ntu(src: Path, names: bool = False) -> dict[str, Collection]:
    """Collect all videos below ``src`` with names like ``S001C002P003R002A013_rgb.avi``. Infrared videos (``_ir.avi``)
    are taken only where there are no RGB videos.

    Setup, camera, performer and replication go into the sample's ``.json``, for splits by subject or by camera.

    Args:
        src: the folder.
        names: label by the official name of the action (``"tear up paper"``) instead of its code (``"A013"``).
    """
    paths, notes = video_files(src)
    items, strange = [], []
    for path, size in paths:
        found = parse_ntu(path)
        if found is None:
            strange.append(path)
            continue
        action = found.action
        if names and not 1 <= action <= len(ACTIONS):
            raise ValueError(f"{src / path}: there is no action {action}; the actions are 1 to {len(ACTIONS)}")
        label = ACTIONS[action - 1] if names else found.code
        extra = {name: getattr(found, name) for name in ("setup", "camera", "performer", "replication")}
        items.append(file_item(src, path, size, label=label, extra=extra))
    if strange:
        notes.append(
            f"left out: {len(strange)} videos that are not named like S001C002P003R002A013 ({such_as(strange)})"
        )
    return {"": collect(src, items, notes=notes)}
