"""Tables that name videos and their labels, read the same way for training, evaluation and packing."""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from fastvid.data.labels.delimited import Record, read_delimited
from fastvid.data.labels.part_folders import part_of_folder

PATH_COLUMNS = (
    "path", "video_path", "filepath", "file_path", "filename", "file_name", "file", "video", "video_name", "clip",
    "name", "video_id", "youtube_id", "id",
)  # fmt: skip
LABEL_COLUMNS = ("label", "class", "class_name", "classname", "category", "action", "target")
CAPTION_COLUMNS = ("caption", "text", "description", "sentence")
PART_COLUMNS = ("split", "subset", "part", "set", "partition")
"""Names of columns, in any case. Where a table has several for one purpose, the first in this order is read."""

_WEBVID = ("videoid", "page_dir", "name")  # the files are page_dir/videoid.mp4; the column name has the captions
_SEGMENT = ("time_start", "time_end")  # Kinetics: the files are named by youtube_id, start and end


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        line: line number in the file, from 1.
        path: path of the video, as the table spells it.
        label: its class, or None.
        caption: description of what it shows, or None.
        part: :data:`TRAIN`, :data:`VAL`, :data:`TEST`, or None where the table has no such column.
    """

    line: int
    path: str
    label: str | None = None
    caption: str | None = None
    part: int | None = None


@dataclass(frozen=True)
class LabelTable:
    """The rows of a table in order, and sentences on what was skipped."""

    file: Path
    rows: Sequence[Row]
    notes: Sequence[str] = ()


def read_label_table(file: Path) -> LabelTable:
    """Read a table of videos.

    Columns are separated by commas, tabs or semicolons, and the first line may name them (:data:`PATH_COLUMNS`,
    :data:`LABEL_COLUMNS`, ...); without names they are path and label, which one space may separate too. Tables of
    WebVid are read as published: the video ``page_dir/videoid.mp4`` with the caption ``name``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the table is malformed; the message has file, line and content.
    """
    table = read_delimited(file, PATH_COLUMNS)
    if not table.records:
        raise ValueError(f"{file} lists no videos")
    columns = table.columns or ["path", "label"]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise ValueError(f"{file}: there are two columns {twice[0]!r}: keep one of them")
    reader = _RowReader(file, columns)
    rows = [reader.row(record) for record in table.records]
    return LabelTable(file, rows, [*reader.notes(), *_spellings(file, rows)])


class _RowReader:
    """Converter from records to rows."""

    def __init__(self, file: Path, columns: list[str]):
        self._file, self._columns = file, columns
        first = {name: number for number, name in enumerate(columns)}

        def column(names: Sequence[str]) -> int | None:
            return next((first[name] for name in names if name in first), None)

        webvid = all(name in first for name in _WEBVID)
        path = first["videoid"] if webvid else column(PATH_COLUMNS)
        assert path is not None  # the column that identified the first line as names
        self._path, self._label = path, column(LABEL_COLUMNS)
        self._caption = first["name"] if webvid else column(CAPTION_COLUMNS)
        self._folder = first["page_dir"] if webvid else None
        self._part = column(PART_COLUMNS)
        self._segment = [first[name] for name in _SEGMENT if name in first]
        if columns[path] != "youtube_id" or len(self._segment) != len(_SEGMENT):
            self._segment = []

    def notes(self) -> list[str]:
        read = {self._path, self._folder, self._label, self._caption, self._part, *self._segment}
        others = [name for number, name in enumerate(self._columns) if number not in read]
        return [f"{self._file}: columns that are not read: {', '.join(map(repr, others))}"] if others else []

    def row(self, record: Record) -> Row:
        path, label, caption, part = (
            None if number is None else record.fields[number] or None
            for number in (self._path, self._label, self._caption, self._part)
        )
        if path is None:
            raise self._refused(record, "a row without a path")
        if self._segment:
            try:
                start, end = (int(float(record.fields[number])) for number in self._segment)
            except ValueError:
                raise self._refused(record, f"{' and '.join(_SEGMENT)} are to be numbers") from None
            path = f"{path}_{start:06d}_{end:06d}"
        if self._folder is not None:
            path = f"{record.fields[self._folder]}/{path}.mp4".removeprefix("/")
        if label is None and caption is None and (self._label is not None or self._caption is not None):
            raise self._refused(record, "a row without a label")
        number = part_of_folder(part) if part is not None else None
        if self._part is not None and number is None:
            name = self._columns[self._part]
            raise self._refused(record, f"the column {name!r} must say train, val or test, not {part or ''!r}")
        return Row(record.line, path, label, caption, number)

    def _refused(self, record: Record, what: str) -> ValueError:
        return ValueError(f"{self._file}, line {record.line}: {what}; it reads {','.join(record.fields)[:120]!r}")


def _spellings(file: Path, rows: Sequence[Row]) -> list[str]:
    """Return a sentence on labels that differ only in upper and lower case."""
    spellings = defaultdict(set)
    for row in rows:
        if row.label is not None:
            spellings[row.label.casefold()].add(row.label)
    several = [sorted(names) for names in spellings.values() if len(names) > 1]
    if not several:
        return []
    return [f"{file}: {' and '.join(map(repr, several[0]))} differ in upper and lower case only, and are two classes"]


def once_each(table: LabelTable, places: Mapping[int, str]) -> tuple[dict[str, Row], list[str]]:
    """Return the row of each video, with repeated rows merged.

    Args:
        table: the rows.
        places: the video of each row, by position in the table; rows that are not in it are left out.

    Returns:
        (the row of each video, a sentence on rows that repeat another).

    Raises:
        ValueError: two rows about one video differ.
    """
    found: dict[str, Row] = {}
    repeated: list[Row] = []
    for position, video in places.items():
        row = table.rows[position]
        first = found.setdefault(video, row)
        if first is row:
            continue
        for what in ("label", "caption", "part"):
            one, other = getattr(first, what), getattr(row, what)
            if one != other:
                raise ValueError(
                    f"{table.file}, lines {first.line} and {row.line}: {row.path!r} has two {what}s, {one!r} and "
                    f"{other!r}: keep one of the rows"
                )
        repeated.append(row)
    if not repeated:
        return found, []
    said = f"{table.file}: {len(repeated)} rows repeat others, the first is line {repeated[0].line}"
    return found, [f"{said} ({repeated[0].path!r})"]


def rows_by_key(table: LabelTable, root: Path, keys: Collection[str]) -> tuple[dict[str, Row], list[str]]:
    """Find the video in a folder that each row is about.

    A path is relative to the folder or, where that finds none of the videos, to the table's own folder; an absolute
    path must be below the folder. Its ending may be left out, and so may its folders where only one video has the name.

    Args:
        table: the rows.
        root: the folder.
        keys: paths of the videos, below it.

    Returns:
        (the row of each video that has one, sentences for the user).

    Raises:
        ValueError: a row leaves the folder, fits several videos or contradicts another, or no row names a video.
    """
    finder = _Finder(root, keys)
    notes = list(table.notes)
    found = finder.places(table, root)
    if not found and table.file.absolute().parent != root.absolute():
        found = finder.places(table, table.file.absolute().parent)
        if found:
            notes.append(f"{table.file}: its paths start from its own folder")
    missing = [row for position, row in enumerate(table.rows) if position not in found]
    if missing:
        said = (
            f"{table.file}: {len(missing)} of {len(table.rows)} rows name videos that are not in {root}, the first is "
            f"line {missing[0].line}, {missing[0].path!r}"
        )
        if not found:
            raise ValueError(f"{said}: paths start from that folder")
        notes.append(said)
    rows, repeated = once_each(table, found)
    without = [key for key in keys if key not in rows]
    if without:
        notes.append(f"{table.file}: {len(without)} of {len(keys)} videos have no row, such as {min(without)!r}")
    return rows, notes + repeated


class _Finder:
    """Lookup of videos by the paths of a table."""

    def __init__(self, root: Path, keys: Collection[str]):
        self._keys = set(keys)
        self._root, self._real = os.path.abspath(root), os.path.realpath(root)

    @cached_property
    def _others(self) -> dict[str, list[str]]:
        """Return the keys by path without ending, and by bare name."""
        found = defaultdict(list)
        for key in sorted(self._keys):
            path = PurePosixPath(key)
            for name in {str(path.with_suffix("")), path.name, path.stem} - {key}:
                found[name].append(key)
        return found

    def places(self, table: LabelTable, base: Path) -> dict[int, str]:
        """Return the key of each row's video, by position of the row."""
        found = {}
        for position, row in enumerate(table.rows):
            path = self._below(table, row, base)
            key = None if path is None else self._key(table, row, path)
            if key is not None:
                found[position] = key
        return found

    def _below(self, table: LabelTable, row: Row, base: Path) -> str | None:
        """Return the row's path below the folder, or None for a relative path that starts elsewhere."""
        path = os.path.normpath(os.path.join(os.path.abspath(base), row.path))
        if os.path.commonpath((self._root, path)) == self._root:
            return os.path.relpath(path, self._root)
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))  # with links resolved
        if os.path.commonpath((self._real, path)) == self._real:
            return os.path.relpath(path, self._real)
        if os.path.isabs(row.path) or os.path.abspath(base) == self._root:
            raise ValueError(f"{table.file}, line {row.line}: {row.path!r} is outside of {self._root}")
        return None

    def _key(self, table: LabelTable, row: Row, path: str) -> str | None:
        if path in self._keys:
            return path
        several = self._others.get(path, [])
        if len(several) > 1:
            raise ValueError(
                f"{table.file}, line {row.line}: {row.path!r} may be {several[0]!r} or {several[1]!r}: write the path"
            )
        return several[0] if several else None
