"""Journal of the videos that a pack has finished, on disk, so that packing can stop at any moment and go on.

In the work folder lie ``plan.json`` (the options and a checksum of the list of videos), ``source.jsonl`` (that list),
and for each finished shard a record, ``shard-000000.json``. A shard is finished at the moment its record appears: its
tar and its index are complete on the disk by then, and moving them to their place can be repeated.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fastvid.data.pack.item import Collection
from fastvid.data.shards.counts import Counts
from fastvid.data.shards.dataset_json import ShardInfo
from fastvid.files import owned, write_whole

PLAN, SOURCE = "plan.json", "source.jsonl"
_VERSION = 1


@dataclass(frozen=True)
class Record:
    """One finished shard.

    Attributes:
        facts: facts of the shard.
        counts: totals of its videos.
        archive: position of the next archive in the collection.
        number: position of the next member in it, or of the next item in the collection.
        taken: positions in the collection of the items from archives that are done.
        rejects: the lines of the rejects file that belong to the items of this shard.
    """

    facts: ShardInfo
    counts: Counts
    archive: int = 0
    number: int = 0
    taken: list[int] = field(default_factory=list)
    rejects: list[dict[str, str]] = field(default_factory=list)


class Changed(ValueError):
    """Error that is raised when the options or the videos are not those that a pack was begun with."""


@contextlib.contextmanager
def locked(work: Path, where: str) -> Iterator[None]:
    """Create the work folder and lock it against other processes.

    Raises:
        ValueError: another process is packing there.
    """
    work.mkdir(parents=True, exist_ok=True)
    try:
        lock = owned(work / "lock")
    except BlockingIOError:
        raise ValueError(f"another process is packing into {where}: wait for it, or stop it") from None
    with lock:
        yield


def plan_of(collection: Collection, options: dict[str, Any]) -> dict[str, Any]:
    """Return the values that must be the same for a pack to go on."""
    digest = hashlib.sha256()
    for line in source_lines(collection):
        digest.update(line)
    videos = len(collection.items)
    return {"version": _VERSION, "options": options, "source": {"videos": videos, "sha256": digest.hexdigest()}}


def source_lines(collection: Collection) -> Iterator[bytes]:
    """Yield the lines of the list of videos. Collections with equal lists count as the same."""
    for item in collection.items:
        yield json.dumps(item.line()).encode() + b"\n"
    for archive in collection.archives:
        yield json.dumps([archive.name, 0, archive.size]).encode() + b"\n"


def begin(work: Path, plan: dict[str, Any], collection: Collection, where: str) -> None:
    """Store the plan, or compare it with the one that is stored.

    Raises:
        Changed: they differ.
    """
    if (work / PLAN).exists():
        compare(json.loads((work / PLAN).read_bytes()), plan, work, collection, where)
        return
    write_whole(work / SOURCE, b"".join(source_lines(collection)))
    write_whole(work / PLAN, json.dumps(plan, indent=1).encode())


def compare(then: dict[str, Any], now: dict[str, Any], work: Path, collection: Collection, where: str) -> None:
    """Raise :class:`Changed` with the first difference between two plans."""
    if then == now:
        return
    remedy = "give a new --out folder, or run it as it was begun"
    options = {name: (then["options"].get(name), value) for name, value in now["options"].items()}
    changed = [f"{name} was {old} and is {new}" for name, (old, new) in options.items() if old != new]
    if changed:
        raise Changed(f"{where} was packed with other options: {'; '.join(changed)}: {remedy}")
    raise Changed(f"the videos are not those that {where} was packed from: {_difference(work, collection)}: {remedy}")


def _difference(work: Path, collection: Collection) -> str:
    if not (work / SOURCE).exists():
        return "the lists differ"
    with (work / SOURCE).open("rb") as file:
        then = {json.loads(line)[0]: line for line in file}
    now = {json.loads(line)[0]: line for line in source_lines(collection)}
    kinds = {
        "new": sorted(now.keys() - then.keys()),
        "gone": sorted(then.keys() - now.keys()),
        "changed in size, label or caption": sorted(p for p in now.keys() & then.keys() if now[p] != then[p]),
    }
    parts = [f"{len(paths)} {kind} (the first is {paths[0]})" for kind, paths in kinds.items() if paths]
    return ", ".join(parts) or "their order differs"


def save_record(work: Path, number: int, record: Record) -> None:
    """Mark a shard as finished."""
    write_whole(work / f"shard-{number:06d}.json", json.dumps(asdict(record)).encode())


def load_records(work: Path) -> list[Record]:
    """Return the finished shards, in order."""
    records = []
    for number, path in enumerate(sorted(work.glob("shard-*.json"))):
        fields = json.loads(path.read_bytes())
        facts, counts = ShardInfo(**fields["facts"]), Counts(**fields["counts"])
        record = Record(**{**fields, "facts": facts, "counts": counts})
        if path.name != f"shard-{number:06d}.json":
            raise ValueError(f"{work} holds {path.name} but not the record before it: remove the folder and start anew")
        records.append(record)
    return records
