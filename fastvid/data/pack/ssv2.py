"""Something-Something V2: webm files beside json lists."""

import json
from pathlib import Path
from typing import Any

from fastvid.data.pack.folder import video_files
from fastvid.data.pack.item import MISSING, Collection, collect, file_item

_PARTS = ("train", "validation", "test")


def ssv2(src: Path) -> dict[str, Collection]:
    """The videos of each list: ``train.json``, ``validation.json``, ``test.json`` or the older
    ``something-something-v2-train.json`` and so on, anywhere below ``src``, with the webm files also anywhere below.

    The label is the template without its brackets, as ``labels.json`` spells it, whose number goes into the sample's
    ``.json`` as ``label_id``; the caption is the filled-in sentence.
    """
    files = {Path(path).stem: (path, size) for path, size in video_files(src)[0]}
    lists = {part: found for part in _PARTS if (found := _find(src, part)) is not None}
    if not lists:
        raise FileNotFoundError(f"no train.json, validation.json or test.json below {src}")
    names = _find(src, "labels")
    ids = {} if names is None else _load(names, dict)
    parts, listed = {}, set()
    for part, path in lists.items():
        items = []
        for entry in _load(path, list):
            if not isinstance(entry, dict) or "id" not in entry:
                raise ValueError(f"{path}: an entry without an id: {entry!r:.80}")
            name = str(entry["id"])
            listed.add(name)
            file, size = files.get(name, (f"{name}.webm", MISSING))
            items.append(file_item(src, file, size, **_facts(entry, ids, path)))
        parts[part] = collect(src, items)
    spare = len(files.keys() - listed)
    note = [f"{spare} videos that no list names were passed over"] if spare else []
    return {part: Collection(c.root, c.items, notes=note) for part, c in parts.items()}


def _facts(entry: dict[str, Any], ids: dict[str, Any], where: Path) -> dict[str, Any]:
    template = entry.get("template")
    if template is None:
        return {"caption": entry.get("label")}
    label = template.replace("[", "").replace("]", "")
    if ids and label not in ids:
        raise ValueError(f"{where}: the template {template!r} of video {entry['id']} is not in labels.json")
    return {"label": label, "caption": entry.get("label"), "extra": {"label_id": int(ids[label])} if ids else {}}


def _find(src: Path, part: str) -> Path | None:
    found = sorted(p for p in src.rglob("*.json") if p.stem == part or p.stem.endswith(f"-{part}"))
    if len(found) > 1:
        raise ValueError(f"{found[0]} and {found[1]} are both lists for {part}: keep one of them below {src}")
    return found[0] if found else None


def _load(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path}: a JSON {kind.__name__} is expected")
    return content
