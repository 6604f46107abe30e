"""Existing WebDataset tars, to be packed anew."""

from pathlib import Path

from fastvid.data.pack.item import Collection, Item, collect
from fastvid.data.pack.keys import key_of
from fastvid.data.shard_index import scan_tar


def webdataset(src: Path) -> dict[str, Collection]:
    """The videos in the tars below ``src``, read where they lie. A key gets its tar's name in front, so that samples
    that are numbered anew in each tar stay apart. Labels and captions come out of ``.json``, ``.cls`` and ``.txt``
    members; other fields of the ``.json`` are kept."""
    tars = sorted(src.rglob("*.tar")) if src.is_dir() else [src]
    if not tars or not all(tar.is_file() for tar in tars):
        raise FileNotFoundError(f"no .tar files below {src}")
    root = src if src.is_dir() else src.parent
    items: list[Item] = []
    notes: list[str] = []
    for tar in tars:
        name = tar.relative_to(root).as_posix()
        for sample in scan_tar(tar, notes.append):
            key = key_of(f"{name.removesuffix('.tar')}/{sample.key}.tar")
            items.append(
                Item(
                    key,
                    name,
                    size=sample.member.size,
                    offset=sample.member.offset,
                    label=sample.label,
                    caption=sample.caption,
                    extra=sample.extra,
                    member=sample.member.name,
                )
            )
    return {"": collect(root, items, notes=notes)}
