"""Text files with one record per line: their encoding, their delimiter, and the records with line numbers."""

import codecs
import csv
import io
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from fastvid.data.source import VIDEO_SUFFIXES
from fastvid.data.walk import REFUSED_SUFFIXES

_DELIMITERS = ("\t", ";", ",")
_ENDINGS = "|".join(re.escape(suffix) for suffix in (*VIDEO_SUFFIXES, *REFUSED_SUFFIXES))
_PATH_THEN_LABEL = re.compile(rf"(.+?(?:{_ENDINGS}))\s+(\S.*)", re.IGNORECASE)
_SEVERAL_NUMBERS = re.compile(r"[-+.\d]+(\s+[-+.\d]+)+")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Record:
    """A record of a table: its last line in the file, counted from 1, and its fields without surrounding spaces."""

    line: int
    fields: list[str]


@dataclass(frozen=True)
class Delimited:
    """The columns of a table, as its first line names them or None, and its records."""

    columns: list[str] | None
    records: list[Record]


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 with a byte order mark. All line ends become newlines.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, is a folder, or is not text in these encodings.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: give the file itself") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    utf16 = data.startswith(_UTF_16)
    if b"\0" in data and not utf16:
        raise ValueError(f"{path} is not a text file: it holds zero bytes")
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        what = "UTF-16" if utf16 else "UTF-8 (Latin-1, perhaps)"
        raise ValueError(f"{path}, line {line}: not {what}: save the file as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_delimited(path: Path, first_columns: Collection[str]) -> Delimited:
    """Read a table whose columns are separated by commas, tabs or semicolons, or by spaces for a path and a label.

    The first line determines the delimiter. It names the columns if one of its fields is in ``first_columns``;
    otherwise it must begin with the path of a video. :class:`csv.Sniffer` is not used, since it guesses from letters
    that are frequent.

    Args:
        path: the table.
        first_columns: lower-case names, one of which is in every line that names the columns.

    Raises: FileNotFoundError, ValueError: see :func:`read_text`; or a line is malformed.
    """
    text = read_text(path)
    first = next((line for line in text.split("\n") if line.strip()), None)
    if first is None:
        raise ValueError(f"{path} is empty")
    for delimiter in _DELIMITERS[::-1]:
        names = [name.lower() for name in _fields(first, delimiter)]
        if set(names) & set(first_columns) and not any(is_video(name) for name in names):
            records = _split_records(path, text, delimiter)[1:]
            return Delimited(names, [_of_width(path, record, names, delimiter) for record in records])
    names = first.lower().split()
    if set(names) & set(first_columns) and not any(is_video(name) for name in names):
        if len(names) != 2:
            raise _refused(path, 1, first, "columns that spaces separate are a path and a label: use commas for more")
        return Delimited(names, _spaced_records(path, text)[1:])
    for delimiter in _DELIMITERS:
        fields = _fields(first, delimiter)
        if len(fields) > 1 and is_video(fields[0]):
            records = _split_records(path, text, delimiter)
            return Delimited(None, [_of_width(path, record, ["path", "label"], delimiter) for record in records])
    if _spaced(first) is not None:
        return Delimited(None, _spaced_records(path, text))
    what = "it neither names the columns, as in `path,label`, nor begins with the path of a video, as in `a.mp4,run`"
    raise _refused(path, text[: text.index(first)].count("\n") + 1, first, what)


def folders_near(folder: Path, beside: bool = True) -> Iterator[Path]:
    """Yield the folders that may hold lists about the videos of a folder: itself and its sub-folders; with ``beside``
    also its parent and the parent's sub-folders.
    """
    for place in (folder, folder.absolute().parent) if beside else (folder,):
        yield place
        if os.access(place, os.R_OK | os.X_OK):  # a parent may not be readable
            yield from sorted(inner for inner in place.iterdir() if inner.is_dir())


def is_video(name: str) -> bool:
    """Return whether a name ends like that of a video file."""
    return name.lower().endswith((*VIDEO_SUFFIXES, *REFUSED_SUFFIXES))


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    except csv.Error:
        return []


def _split_records(path: Path, text: str, delimiter: str) -> list[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    records = []
    try:
        for fields in reader:
            fields = [field.strip() for field in fields]
            if any(fields):
                records.append(Record(reader.line_num, fields))
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: {error}: is a quotation mark missing or too many?"
        ) from error
    return records


def _of_width(path: Path, record: Record, columns: list[str], delimiter: str) -> Record:
    fields, width = record.fields, len(columns)
    if len(fields) < width or any(fields[width:]):
        row = delimiter.join(fields)
        what = f"{len(fields)} fields, where {width} are expected ({', '.join(columns)})"
        if len(fields) > width:
            what += f": put quotes around a field that holds {delimiter!r}"
        raise _refused(path, record.line, row, what)
    return Record(record.line, fields[:width])


def _spaced_records(path: Path, text: str) -> list[Record]:
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            fields = _spaced(line)
            if fields is None:
                raise _refused(path, number, line, "not a path, a space and a label")
            records.append(Record(number, fields))
    return records


def _spaced(line: str) -> list[str] | None:
    """Split a line into path and label. Both may hold spaces where the path ends like a video; it may be in quotes."""
    line = line.strip()
    if '"' in line:
        fields = [field for field in _fields(line, " ") if field]
        return fields if len(fields) == 2 else None
    match = _PATH_THEN_LABEL.fullmatch(line)
    if match is None:
        fields = line.split()
        return fields if len(fields) == 2 and not is_video(fields[1]) else None
    return None if _SEVERAL_NUMBERS.fullmatch(match[2]) else [match[1], match[2]]


def _refused(path: Path, line: int, content: str, what: str) -> ValueError:
    return ValueError(f"{path}, line {line}: {what}; it reads {content.strip()[:120]!r}")
