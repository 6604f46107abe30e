"""Videos listed in a table, as :mod:`fastvid.data.labels.table` reads it."""

import os
from collections import defaultdict
from pathlib import Path

from fastvid.data.labels.part_folders import PART_NAMES
from fastvid.data.labels.table import once_each, read_label_table
from fastvid.data.pack.item import MISSING, Collection, collect, file_item
from fastvid.names import spelled


def table(src: Path, root: Path | None = None) -> dict[str, Collection]:
    """Collect the videos that a table lists; with a column ``split``, those of each part.

    Args:
        src: the table, with labels, captions, both or neither.
        root: folder that relative paths start from; default the table's folder. A path that leads out of it is
            taken all the same: keys then start from the folder that holds all videos.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_label_table`; or there is none of the videos.
    """
    listed = read_label_table(src)
    base = os.path.abspath(root or src.parent)
    places = {position: os.path.normpath(os.path.join(base, row.path)) for position, row in enumerate(listed.rows)}
    rows, repeated = once_each(listed, places)
    if not all(path.startswith(f"{base.rstrip('/')}/") for path in rows):
        base = os.path.commonpath([os.path.dirname(path) for path in rows])
    parts = defaultdict(list)
    for path, row in rows.items():
        part = "" if row.part is None else PART_NAMES[row.part]
        parts[part].append(file_item(Path(base), os.path.relpath(path, base), label=row.label, caption=row.caption))
    if all(item.size == MISSING for items in parts.values() for item in items):
        first, row = next(iter(rows.items()))
        raise ValueError(
            f"{src} names no video that is there: the first, {row.path!r} in line {row.line}, was "
            f"looked for at {spelled(first)}. Relative paths start from the table's folder, or from --root; they "
            "are complete, with the ending"
        )
    notes = [*listed.notes, *repeated]
    return {part: collect(Path(base), items, notes=notes) for part, items in parts.items()}
