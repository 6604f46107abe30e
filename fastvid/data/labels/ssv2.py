"""Lists of Something-Something V2: which of them exist, and what they say about each video."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastvid.data.labels.delimited import folders_near, read_text

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Entry:
    """A list's record of a video: label and caption, which a test list leaves out, and the label's number."""

    label: str | None = None
    caption: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def ssv2_lists_near(folder: Path, beside: bool) -> dict[str, Path]:
    """Find the lists ``train``, ``validation``, perhaps ``test`` and ``labels`` in one folder: this one, one in it, or
    with ``beside`` one beside it. Return nothing where no two of them look like those of Something-Something V2.
    """
    for place in folders_near(folder, beside):
        found = _lists(place.glob("*.json"), place)
        if "train" in found and "validation" in found and _has_templates(found["train"]):
            return found
    return {}


def _has_templates(path: Path) -> bool:
    """Return whether a file is such a list; many data sets have a ``train.json`` of another kind."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and "template" in content[0]


def read_ssv2(lists: Mapping[str, Path]) -> dict[str, dict[str, Entry]]:
    """Read lists and return their entries by part and video id.

    Args:
        lists: files by part, and ``labels``, which may be missing.

    Raises: ValueError: a file is not such a list; a video is listed twice, with different labels or in two parts; or a
        training video has no label.
    """
    ids = _load(lists["labels"], dict) if "labels" in lists else {}
    parts: dict[str, dict[str, Entry]] = {}
    where: dict[str, Path] = {}
    for part, path in lists.items():
        if part == "labels":
            continue
        parts[part] = {}
        for entry in _load(path, list):
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), str | int):
                raise ValueError(f"{path}: an entry without an id: {entry!r:.80}")
            name = str(entry["id"])
            if where.setdefault(name, path) != path:
                raise ValueError(f"video {name} is in {where[name]} and in {path}: keep it in one of them")
            found = _entry(entry, ids, path)
            if part != "test" and found.label is None:
                raise ValueError(f"{path}: video {name} has no template, which is its label: {entry!r:.80}")
            other = parts[part].setdefault(name, found)
            if other.label != found.label:
                raise ValueError(f"{path}: video {name} has two labels, {other.label!r} and {found.label!r}")
    return parts


def _entry(entry: dict[str, Any], ids: dict[str, Any], where: Path) -> Entry:
    template, caption = entry.get("template"), entry.get("label")
    if not isinstance(template, str | None) or not isinstance(caption, str | None):
        raise ValueError(f"{where}: template and label of video {entry['id']} are to be texts: {entry!r:.80}")
    if template is None:
        return Entry(caption=caption)
    label = template.replace("[", "").replace("]", "").strip()
    if ids and label not in ids:
        raise ValueError(f"{where}: the template {template!r} of video {entry['id']} is not in labels.json")
    if not ids:
        return Entry(label, caption)
    if not str(ids[label]).isdecimal():
        raise ValueError(f"labels.json: the number of {label!r} is {ids[label]!r}")
    return Entry(label, caption, {"label_id": int(ids[label])})


def _lists(paths: Iterable[Path], src: Path) -> dict[str, Path]:
    lists: dict[str, Path] = {}
    for path in sorted(paths):
        for part in (*_PARTS, "labels"):
            if path.stem == part or path.stem.endswith(f"-{part}"):
                if part in lists:
                    raise ValueError(
                        f"{lists[part]} and {path} are both lists for {part}: keep one of them below {src}"
                    )
                lists[part] = path
    return {part: lists[part] for part in (*_PARTS, "labels") if part in lists}


def _load(path: Path, kind: type) -> Any:
    text = read_text(path)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path}: a JSON {kind.__name__} is expected")
    return content
