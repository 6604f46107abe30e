"""Something-Something V2: webm files beside json lists."""

from pathlib import Path

from fastvid.data.labels.ssv2 import _PARTS, _lists, read_ssv2, ssv2_lists_near
from fastvid.data.pack.folder import video_files
from fastvid.data.pack.item import MISSING, Collection, collect, file_item


def ssv2(src: Path) -> dict[str, Collection]:
    """Collect the videos of each list: ``train.json``, ``validation.json``, ``test.json`` or the older
    ``something-something-v2-train.json`` and so on. Lists are searched anywhere below ``src`` or, where none are there,
    beside it as :func:`ssv2_lists_near` finds them. The webm files may be anywhere below ``src``.

    The label is the template without its brackets, as ``labels.json`` spells it, whose number goes into the sample's
    ``.json`` as ``label_id``; the caption is the filled-in sentence.
    """
    files: dict[str, tuple[str, int]] = {}
    twice: dict[str, tuple[str, str]] = {}
    paths, notes = video_files(src)
    for path, size in paths:
        other, _ = files.setdefault(Path(path).stem, (path, size))
        if other != path:
            twice[Path(path).stem] = (other, path)
    lists = _lists(src.rglob("*.json"), src)
    if not set(lists) & set(_PARTS):
        lists = ssv2_lists_near(src, beside=True)
    if not lists:
        raise FileNotFoundError(
            f"no train.json, validation.json or test.json below {src}, nor train.json and validation.json beside it"
        )
    parts, listed = {}, set()
    for part, entries in read_ssv2(lists).items():
        items = []
        for name, entry in entries.items():
            listed.add(name)
            if name in twice:
                raise ValueError(f"{' and '.join(twice[name])} may both be video {name} of {lists[part]}: keep one")
            file, size = files.get(name, (f"{name}.webm", MISSING))
            items.append(file_item(src, file, size, label=entry.label, caption=entry.caption, extra=entry.extra))
        parts[part] = collect(src, items)
    spare = len(files.keys() - listed)
    if spare:
        notes = [*notes, f"{spare} videos that no list names were passed over"]
    return {part: Collection(c.root, c.items, notes=notes) for part, c in parts.items()}
