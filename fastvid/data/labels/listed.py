"""Labels, captions and parts from lists beside the videos of a folder: a table, or those of Something-Something V2."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from fastvid.data.labels.part_folders import part_of_folder
from fastvid.data.labels.ssv2 import read_ssv2, ssv2_lists_near
from fastvid.data.labels.table import Row, read_label_table, rows_by_key
from fastvid.data.source import Origin

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """The labels and parts that lists give to videos.

    Attributes:
        where: names of the lists, for messages.
        rows: row of each video, by key.
    """

    where: str
    rows: Mapping[str, Row]

    def labels(self, keys: Sequence[str]) -> list[str | None]:
        """Return the label of each video, or None for one that is not listed."""
        return [self.rows[key].label if key in self.rows else None for key in keys]

    def captions(self, keys: Sequence[str]) -> list[str | None]:
        """Return the caption of each video, or None for one that has none."""
        return [self.rows[key].caption if key in self.rows else None for key in keys]

    def origin(self, key: str, origin: Origin) -> Origin:
        """Return ``origin`` with what the lists say about the video."""
        row = self.rows.get(key)
        return replace(origin, listed=self.where, part=None if row is None else row.part, unlisted=row is None)


def listed_labels(root: Path, keys: Sequence[str], table: Path | None) -> Listed | None:
    """Read a table of labels, or else the lists of Something-Something V2 in or beside the folder. Return None where
    there is neither. What is skipped is logged.

    Args:
        root: folder of the videos.
        keys: their paths below it.
        table: the table, or None.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_label_table`; or a table with neither labels nor captions.
    """
    if table is None:
        return _of_ssv2(root, keys)
    rows, notes = rows_by_key(read_label_table(table), root, keys)
    if not any(row.label or row.caption for row in rows.values()):
        raise ValueError(f"{table} has no labels: it needs a column named label, or class")
    for note in notes:
        log.warning("%s", note)
    return Listed(str(table), rows)


def _of_ssv2(root: Path, keys: Sequence[str]) -> Listed | None:
    if not all(PurePosixPath(key).stem.isdecimal() for key in keys):
        return None  # files of Something-Something V2 are named by numbers
    # The lists beside the folder may belong to another data set: only files as published are looked for there.
    lists = ssv2_lists_near(root, beside=all(key.endswith(".webm") for key in keys))
    if not lists:
        return None
    by_name = defaultdict(list)
    for key in keys:
        by_name[PurePosixPath(key).stem].append(key)
    rows: dict[str, Row] = {}
    missing = 0
    for part, entries in read_ssv2(lists).items():
        for name, entry in entries.items():
            found = by_name.get(name, [])
            if len(found) > 1:
                raise ValueError(f"{found[0]} and {found[1]} may both be video {name} of {lists[part]}: keep one")
            missing += not found
            for key in found:
                rows[key] = Row(0, key, entry.label, entry.caption, part_of_folder(part))
    if not rows:
        return None
    where = ", ".join(str(path) for part, path in lists.items() if part != "labels")
    log.info("labels are those of Something-Something V2's lists: %s", where)
    if missing:
        log.warning("%d of the videos on these lists are not in %s", missing, root)
    if len(rows) < len(keys):
        log.warning("%d of %d videos are on none of these lists", len(keys) - len(rows), len(keys))
    return Listed(where, rows)
