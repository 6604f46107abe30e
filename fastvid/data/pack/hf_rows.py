"""Rows of a data set of Hugging Face ``datasets``, streamed: nothing is downloaded before it is packed, and no file is
kept.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec

from fastvid.data.pack.item import Collection, Item, Row
from fastvid.data.storage.remote import StreamError
from fastvid.data.text.conversation import conversations_of, is_text_alone
from fastvid.video import Limits

_TALKS = ("conversations", "messages", "conversation")
_PAIRS = "texts"  # The Cauldron: questions about one picture, each a conversation of its own


def hf_rows(name: str, config: str | None, split: str) -> dict[str, Collection]:
    """Collect the rows of a data set: videos, still images, and texts without either.

    Args:
        name: of the data set on the Hugging Face hub, or a local folder as ``datasets.load_dataset`` reads it.
        config: of the data set, where it has several.
        split: of the data set.

    Raises:
        ValueError: ``datasets`` is not installed, or there is no such configuration or split.
        FileNotFoundError: there is no such data set.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError("pack --format hf needs the package datasets: pip install 'fastvid[datasets]'") from error
    rows = datasets.load_dataset(name, config, split=split, streaming=True)
    media: list[str] = []
    classes: dict[str, Any] = {}
    left: list[str] = []
    if rows.features is not None:
        classes = {n: f.int2str for n, f in rows.features.items() if isinstance(f, datasets.ClassLabel)}
        media = [column for column, feature in rows.features.items() if _undecoded(feature) != feature]
        rows = rows.cast(datasets.Features({n: _undecoded(feature) for n, feature in rows.features.items()}))
        left = sorted(n for n, feature in rows.features.items() if n not in media and not _kept(feature))
    notes = [f"left out: the columns {', '.join(left)}, which are neither text nor number"] if left else []
    splits = rows.info.splits or {}
    count = splits[split].num_examples if split in splits else 0
    return {"": Collection(Path(), (), notes=notes, rows=_HfRows(rows, media, classes, count or 0))}


class _HfRows:
    """The rows of a data set, from any of them on."""

    def __init__(self, rows: Any, media: list[str], classes: Mapping[str, Any], count: int):
        self._rows, self._media, self._classes, self.count = rows, media, classes, count

    def begin(self, first: int) -> Iterator[Row]:
        for number, row in enumerate(self._rows.skip(first) if first else self._rows, first):
            named = {n: self._classes[n](v) if n in self._classes and v is not None else v for n, v in row.items()}
            try:
                yield _row(f"{number:08d}", named, self._media)
            except ValueError as error:
                yield Row(Item(f"{number:08d}", f"row {number}"), failed=str(error))
            except FileNotFoundError as error:
                yield Row(Item(f"{number:08d}", f"row {number}"), failed=f"its file is not there: {error}")
            except OSError as error:
                raise StreamError(
                    f"row {number} could not be read ({type(error).__name__}: {error}). Finished shards are kept: run "
                    "the same command again, it goes on from there"
                ) from error


def _undecoded(feature: Any) -> Any:
    """Return a feature whose pictures and videos are given as they are stored."""
    if getattr(feature, "decode", None) is True:
        return dataclasses.replace(feature, decode=False)
    if isinstance(feature, list):
        return [_undecoded(one) for one in feature]
    inner = getattr(feature, "feature", None)
    return feature if inner is None else dataclasses.replace(feature, feature=_undecoded(inner))


def _kept(feature: Any) -> bool:
    """Return whether the values of a column can be written into a ``.json``."""
    if isinstance(feature, dict):
        return all(map(_kept, feature.values()))
    if isinstance(feature, list):
        return all(map(_kept, feature))
    if (inner := getattr(feature, "feature", None)) is not None:
        return _kept(inner)
    return str(getattr(feature, "dtype", "")).startswith(("string", "large_string", "bool", "int", "uint", "float"))


def _row(key: str, row: Mapping[str, Any], media: list[str]) -> Row:
    """Return a row's picture or video, and what is written about it.

    Raises:
        ValueError: several pictures, no text where there is no picture, or a text that cannot be used.
    """
    shown = [one for column in media for one in _listed(row[column]) if one is not None]
    fields = {n: v for n, v in row.items() if n not in media and v is not None and _plain(v)}
    talk = next((fields.pop(column) for column in _TALKS if isinstance(fields.get(column), list)), None)
    if talk is None and isinstance(fields.get(_PAIRS), list):
        talk = [[{"role": who, "content": one[who]} for who in ("user", "assistant")] for one in fields.pop(_PAIRS)]
    if talk is not None:
        fields["conversations"] = talk
    caption, label = fields.pop("caption", None), fields.pop("label", None)
    if caption is None and shown and talk is None and isinstance(fields.get("text"), str):
        caption = fields.pop("text")
    caption, label = (one if isinstance(one, str) else None for one in (caption, label))
    where = f"row {int(key)}"
    if not shown:
        if not is_text_alone(fields):
            raise ValueError("neither a picture nor a video, nor a conversation that needs none")
        conversations_of(fields)
        return Row(Item(key, where, extra=fields, text_alone=True))
    if len(shown) > 1:
        raise ValueError(f"{len(shown)} pictures or videos: a sample is one")
    if caption is not None or talk is not None:
        conversations_of(fields, caption)
    data = _bytes(shown[0])
    return Row(Item(key, where, len(data), label, caption, extra=fields), data)


def _bytes(stored: Mapping[str, Any]) -> bytes:
    if stored.get("bytes") is not None:
        return bytes(stored["bytes"])
    with fsspec.open(stored["path"], "rb") as file:
        data: bytes = file.read(Limits().bytes + 1)  # one more is over the limit, and is refused as such
    return data


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
