"""Videos about which something is written: shards with conversations or captions, or a folder with a list of them."""

import logging
import os.path
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastvid.data.source import Sample, Source
from fastvid.data.sources.concat import join
from fastvid.data.sources.folder import FolderSource
from fastvid.data.sources.open import open_parts
from fastvid.data.sources.subset import subset
from fastvid.data.sources.texts import TextSource
from fastvid.data.sources.wrapped import WrappedSource
from fastvid.data.text.lists import CAPTIONS, LIST_SUFFIXES, left_out, read_list
from fastvid.names import spelled

log = logging.getLogger(__name__)


def open_described(path: str | Path, labels: str | Path | None = None, **options: Any) -> Source:
    """Open videos that have conversations or captions; those without are left out and counted.

    Args:
        path: see :func:`fastvid.data.open_parts`; or a folder of videos with a list ``captions.json`` (or
            ``captions.jsonl``), or such a list itself, whose paths start from its folder; it may name still images, and
            hold conversations about nothing. The list is kept in memory, while what is written in shards is read when
            a sample is.
        labels: see :func:`fastvid.data.open_parts`.
        options: likewise.

    Raises:
        FileNotFoundError, ValueError: as there; or the list is not one, or nothing is written about any video.
    """
    written = None if "://" in str(path) else _list_of(Path(path).expanduser())
    if written is not None:
        return _of_list(written, labels)
    source = open_parts(path, labels, **options)
    told = [sample.described or sample.caption is not None for sample in source.samples]
    if all(told):
        return source
    if not any(told):
        raise ValueError(
            f"nothing is written about any of the {source.description}: captions or conversations are expected in the "
            f"shards, or a list {CAPTIONS[0]} in a folder of videos (docs/data.md)"
        )
    log.warning(
        "%d of %s have neither caption nor conversation and are left out", told.count(False), source.description
    )
    return subset(source, told)


def _list_of(path: Path) -> Path | None:
    if path.suffix.lower() in LIST_SUFFIXES and path.is_file():
        return path
    return next((path / name for name in CAPTIONS if (path / name).is_file()), None)


def _of_list(path: Path, labels: str | Path | None) -> Source:
    without: list[str] = []
    fields: dict[str, dict[str, Any]] = {}
    texts: list[dict[str, Any]] = []
    for entry in read_list(path, without.append):
        if not entry.video:
            texts.append(entry.fields)
            continue
        if entry.video.startswith("..") or os.path.isabs(entry.video):
            raise ValueError(f"{entry.where}: {entry.video} is not below the folder of the list")
        key = spelled(entry.video)
        if key not in fields:
            fields[key] = dict(entry.fields)
        elif "conversations" in entry.fields and "conversations" in fields[key]:
            fields[key]["conversations"] = _several(fields[key]) + _several(entry.fields)
        else:
            raise ValueError(f"{entry.where}: {entry.video} is listed before; only conversations may be several")
    if not fields and not texts:
        raise ValueError(f"{path} names no video; " + "; ".join(left_out(without) or ["it is empty"]))
    for note in left_out(without):
        log.warning("%s: %s", path, note)
    if not fields:
        return TextSource(texts, str(path))
    videos = _Described(FolderSource(path.parent, labels, list(fields)), fields, path)
    return join({"videos": videos, "texts": TextSource(texts, str(path))}) if texts else videos


def _several(fields: dict[str, Any]) -> list[Any]:
    written = fields["conversations"]
    return written if isinstance(written, list) and written and isinstance(written[0], list) else [written]


class _Described(WrappedSource):
    """A folder's videos with what a list says about them."""

    def __init__(self, source: FolderSource, fields: dict[str, dict[str, Any]], where: Path):
        super().__init__(source)
        self._fields = fields
        self.samples = [_described(sample, fields[sample.key]) for sample in source.samples]
        self.description = f"{source.description}, as {where.name} lists them"

    def classes(self) -> list[str]:
        return sorted({sample.label for sample in self.samples if sample.label is not None})

    def fields(self, index: int) -> dict[str, Any]:
        return {**super().fields(index), **self._fields[self.samples[index].key]}


def _described(sample: Sample, fields: dict[str, Any]) -> Sample:
    caption, label = fields.get("caption"), fields.get("label")
    return replace(
        sample,
        caption=caption if isinstance(caption, str) else None,
        label=label if sample.label is None and isinstance(label, str) else sample.label,
        described=True,
    )
