"""Videos listed in a table: VideoMAE's and V-JEPA's lists of ``path label``, or a CSV with named columns."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from fastvid.data.pack.item import Collection, collect, file_item
from fastvid.data.source import VIDEO_SUFFIXES

_COLUMNS = ("path", "label", "caption")


def table(src: Path, root: Path | None = None) -> dict[str, Collection]:
    """The videos that a table lists.

    Args:
        src: the table. Either its first line names the columns ``path`` and, as there are, ``label`` and ``caption``,
            separated by commas; or each line is a path, one space (or comma) and a label, as VideoMAE and V-JEPA have
            it.
        root: what relative paths start from; default the table's folder.
    """
    if not src.is_file():
        raise FileNotFoundError(f"{src} is no file: give the table that lists the videos")
    base = Path(os.path.abspath(root or src.parent))
    with src.open(newline="", encoding="utf-8-sig") as file:
        rows = [(os.path.normpath(base / path), label, caption) for path, label, caption in _rows(file, src)]
    if not rows:
        raise ValueError(f"{src} lists no videos")
    if not all(path.startswith(f"{base}/") for path, _, _ in rows):
        base = Path(os.path.commonpath([os.path.dirname(path) for path, _, _ in rows]))
    items = (
        file_item(base, os.path.relpath(path, base), label=label or None, caption=caption or None)
        for path, label, caption in rows
    )
    return {"": collect(base, items)}


def _rows(file, src: Path) -> Iterator[tuple[str, str, str]]:
    first = file.readline()
    file.seek(0)
    names = [name.strip() for name in next(csv.reader([first]), [])] or [""]
    if "path" in names:
        unknown = set(names) - set(_COLUMNS)
        if unknown:
            raise ValueError(f"{src}: columns {', '.join(sorted(unknown))} are not among {', '.join(_COLUMNS)}")
        reader = csv.DictReader(file, fieldnames=names, restval="")
        next(reader)
        for number, row in enumerate(reader, 2):
            if None in row or not row["path"]:
                raise ValueError(f"{src}, line {number}: not as many columns as the first line names, or no path")
            yield row["path"], row.get("label", ""), row.get("caption", "")
        return
    comma = names[0].lower().endswith(VIDEO_SUFFIXES) and len(names) > 1
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        fields = line.strip().rsplit("," if comma else None, 1)
        if len(fields) != 2:
            raise ValueError(
                f"{src}, line {number}: neither `path label` nor, after a first line that names them, the columns "
                f"{','.join(_COLUMNS)}"
            )
        yield fields[0].strip(), fields[1].strip(), ""
