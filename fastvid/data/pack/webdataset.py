"""Existing WebDataset tars, to be packed anew."""

from pathlib import Path

from fastvid.data.pack.item import Collection, Item, collect
from fastvid.data.pack.keys import key_of
from fastvid.data.shard_index import scan_tar
from fastvid.data.walk import such_as, walk


def webdataset(src: Path, video: str | None = None) -> dict[str, Collection]:
    """The videos in the tars below ``src``, read where they lie. A key gets its tar's name in front, so that samples
    that are numbered anew in each tar stay apart. Labels and captions come out of ``.json``, ``.cls`` and ``.txt``
    members; other fields of the ``.json`` are kept. ``video`` is that of :func:`fastvid.data.shard_index.scan_tar`."""
    items: list[Item] = []
    notes: list[str] = []
    if src.is_dir():
        root, found = src, walk(src)
        tars = [src / name for name in found.tars]
        notes += [note for note in [found.left_out(tars=False)] if note]
        if found.videos:
            names = such_as([name for name, _ in found.videos])
            notes.append(
                f"left out: {len(found.videos)} videos outside the tar files ({names}); --format folder packs them"
            )
    else:
        root, tars = src.parent, [src]
    if not tars:
        raise FileNotFoundError("; ".join([f"no .tar files below {src}", *notes]))
    for tar in tars:
        name = tar.relative_to(root).as_posix()
        for sample in scan_tar(tar, notes.append, video):
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
