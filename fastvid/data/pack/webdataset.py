"""Existing WebDataset tars, to be packed anew."""

from collections.abc import Sequence
from pathlib import Path

from fastvid.data.pack.item import Collection, Item, collect
from fastvid.data.shards.keys import key_of
from fastvid.data.shards.tar_samples import scan_tar
from fastvid.data.sources.shard_folders import parts_with_shards
from fastvid.data.walk import Listing, shards_in, such_as, walk


def webdataset(src: Path, video: str | None = None) -> dict[str, Collection]:
    """Collect the videos in the tars below ``src``, to be read in place. Where all tars are in folders train, val and
    test, each becomes a part.

    A key gets its tar's name in front, so that samples that are numbered anew in each tar stay apart. Labels and
    captions come out of ``.json``, ``.cls`` and ``.txt`` members; other fields of the ``.json`` are kept. ``video`` is
    that of :func:`fastvid.data.shards.tar_samples.scan_tar`.
    """
    if not src.is_dir():
        return {"": _packed_anew(src.parent, [src], [], video)}
    found = walk(src)
    if not found.tars:
        raise FileNotFoundError("; ".join([f"no .tar files below {src}", *_left_out(found)]))
    parts = parts_with_shards(src) if not shards_in(src) else {}
    if not parts or found.outside(parts).tars:
        return {"": _packed_anew(src, [src / name for name in found.tars], _left_out(found), video)}
    notes, collections = _left_out(found), {}
    for name, part in parts.items():
        if tars := [src / tar for tar in found.tars if tar.startswith(f"{name}/")]:
            collections[name], notes = _packed_anew(part, tars, notes, video), []
    return collections


def _left_out(found: Listing) -> list[str]:
    notes = [note for note in [found.left_out(tars=False)] if note]
    if found.videos:
        names = such_as([name for name, _ in found.videos])
        notes.append(
            f"left out: {len(found.videos)} videos outside the tar files ({names}); --format folder packs them"
        )
    return notes


def _packed_anew(root: Path, tars: Sequence[Path], notes: list[str], video: str | None) -> Collection:
    items: list[Item] = []
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
                    text_alone=sample.text_alone,
                )
            )
    return collect(root, items, notes=notes)
