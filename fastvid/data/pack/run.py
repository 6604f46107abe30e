"""Packs one collection: tasks in a fixed order, prepared in parallel, written by one writer.

The order of the tasks and the rule that closes a shard know nothing of processes, so the bytes are the same for any
number of them, and after any number of interruptions.
"""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastvid.data.pack import journal
from fastvid.data.pack.archive import ARCHIVE_ERRORS
from fastvid.data.pack.item import Collection, Item
from fastvid.data.pack.prepare import PackTask, Prepared, Reject, Treatment, prepare
from fastvid.data.pack.target import Target
from fastvid.data.shards.counts import Counts
from fastvid.data.shards.dataset_json import NAME, Dataset
from fastvid.data.shards.index import index_name
from fastvid.data.shards.tar_writer import TarShard
from fastvid.data.storage.remote import StreamError
from fastvid.data.worker_pool import in_order
from fastvid.files import write_whole
from fastvid.names import spelled

REJECTS = "rejects.jsonl"


@dataclass(frozen=True)
class Packing:
    """The settings with which a collection is packed.

    Attributes:
        prefix: prefix of the shards' names.
        shard_bytes: a shard is closed when it has grown past this.
        shuffle: whether videos are packed in an order that mixes classes; else by key. Archives keep theirs.
        treatment: processing of every video.
        jobs: processes.
    """

    prefix: str = "shard"
    shard_bytes: int = 128 << 20
    shuffle: bool = True
    treatment: Treatment = field(default_factory=Treatment)
    jobs: int = 1


@dataclass(frozen=True)
class Outcome:
    """The result of packing.

    Attributes:
        dataset: contents of ``dataset.json``.
        rejects: videos that could not be used, by reason.
        new: False if everything was there already.
    """

    dataset: Dataset
    rejects: dict[str, int]
    new: bool


Progress = Callable[[int, int], None]


def pack(
    collection: Collection, target: Target, work: Path, packing: Packing, options: dict[str, Any], progress: Progress
) -> Outcome:
    """Pack a collection into shards, or continue where an interrupted run stopped.

    Args:
        collection: the videos.
        target: where the shards go.
        work: folder for what is unfinished; on the target's file system if that is local.
        packing: options of packing.
        options: the user's options, recorded in ``dataset.json``; they must be the same when packing is resumed.
        progress: called with (videos done, videos in all).

    Raises:
        Changed: the target was packed from other videos or with other options.
        ValueError: it holds something else, or no video can be used.
        OSError: it cannot be written; what is finished stays.
    """
    plan = journal.plan_of(collection, options)
    there = target.sizes()
    if NAME in there:
        return _already(target, there, plan, work, collection)
    foreign = sorted(name for name in there if name.endswith((".tar", ".index.jsonl")))
    if foreign and not (work / journal.PLAN).exists():
        raise ValueError(f"{target.where} holds {foreign[0]}, which no unfinished pack has put there: give a new --out")
    with journal.locked(work, target.where):
        journal.begin(work, plan, collection, target.where)
        writer = _Writer(target, there, work, packing, journal.load_records(work))
        total = len(collection.items) if collection.rows is None else collection.rows.count
        progress(writer.done, total)
        if collection.rows is not None:
            tasks = _row_tasks(collection, writer.number)
        elif collection.archives:
            tasks = _archive_tasks(collection, writer.archive, writer.number, writer.taken)
        else:
            tasks = _file_tasks(collection, packing, writer.number)
        work_on = functools.partial(prepare, treatment=packing.treatment)
        results = in_order(work_on, tasks, packing.jobs, _died, lambda task: max(task.item.size, 0))
        try:
            for task, result in results:
                writer.take(task, result)
                progress(writer.done, total)
            writer.end(collection)
        finally:
            results.close()
            writer.abandon()
        progress(writer.done, writer.done)
        return _finish(target, work, plan, writer)


def _finish(target: Target, work: Path, plan: dict[str, Any], writer: "_Writer") -> Outcome:
    reasons: dict[str, int] = {}
    for line in writer.rejects:
        reasons[line["reason"]] = reasons.get(line["reason"], 0) + 1
    write_whole(work / REJECTS, b"".join(json.dumps(line).encode() + b"\n" for line in writer.rejects))
    target.move_in(work / REJECTS, REJECTS)
    if not writer.facts and not writer.rejects:
        raise ValueError("there is nothing to pack: the stream has no rows")
    if not writer.facts:
        first = writer.rejects[0]
        raise ValueError(
            f"none of the videos can be used, such as {first['path']} ({first['reason']}: {first['detail']}): see "
            f"{target.where}/{REJECTS}"
        )
    made_by = {"command": "pack", **plan, "rejects": reasons}
    dataset = writer.counts.dataset(writer.facts, made_by)
    write_whole(work / NAME, dataset.to_bytes())
    target.move_in(work / NAME, NAME)
    for record in work.glob("shard-*.json"):
        record.unlink()
    return Outcome(dataset, reasons, True)


def _already(
    target: Target, there: dict[str, int], plan: dict[str, Any], work: Path, collection: Collection
) -> Outcome:
    where = f"{target.where}/{NAME}"
    dataset = Dataset.from_bytes(target.read(NAME), where)
    then = {name: dataset.made_by.get(name) for name in plan}
    if dataset.made_by.get("command") != "pack" or not isinstance(then.get("options"), dict):
        raise journal.Changed(f"{where} is there, and was not written by pack: give a new --out")
    journal.compare(then, plan, work, collection, target.where)
    for shard in dataset.shards:
        for name, size in ((shard.name, shard.bytes), (index_name(shard.name), shard.index_bytes)):
            if there.get(name) != size:
                raise ValueError(f"{target.where}/{name} is missing or has another size: give a new --out to pack anew")
    return Outcome(dataset, dataset.made_by.get("rejects", {}), False)


class _Writer:
    """Takes prepared videos in order, and writes shards, records and rejects."""

    def __init__(
        self,
        target: Target,
        there: dict[str, int],
        work: Path,
        packing: Packing,
        records: list[journal.Record],
    ):
        self._target, self._there, self._work, self._packing = target, there, work, packing
        self.facts = [record.facts for record in records]
        self.rejects = [line for record in records for line in record.rejects]
        self.counts = Counts()
        for record in records:
            self.counts.merge(record.counts)
        self.taken = {position for record in records for position in record.taken}
        last = records[-1] if records else None
        self.archive, self.number = (last.archive, last.number) if last else (0, 0)
        self.done = sum(fact.samples for fact in self.facts) + len(self.rejects)
        self._shard: TarShard | None = None
        self._shard_taken: list[int] = []
        self._shard_rejects: list[dict[str, str]] = []
        for left in work.glob("*.part"):
            if not any(left.name.startswith(fact.name) for fact in self.facts):
                left.unlink()
        for fact in self.facts:
            self._publish(fact.name, fact.bytes, fact.index_bytes)

    def take(self, task: PackTask, result: Prepared | Reject) -> None:
        self.archive, self.number = task.archive, task.number
        self.done += bool(task.item.key)
        if task.position is not None:
            self._shard_taken.append(task.position)
        if isinstance(result, Reject):
            self.reject(task.item.key, task.item.where, result)
            return
        if self._shard is None:
            name = f"{self._packing.prefix}-{len(self.facts):06d}.tar"
            self._shard = TarShard(self._work / f"{name}.part", name)
        item = task.item
        self._shard.add(item.key, result.suffix, result.data, result.info, item.label, item.caption, item.extra)
        if self._shard.bytes >= self._packing.shard_bytes:
            self._close()

    def reject(self, key: str, path: str, why: Reject) -> None:
        line = {"key": key, "path": spelled(path), "reason": why.reason, "detail": why.detail}
        self._shard_rejects.append(line)
        self.rejects.append(line)

    def end(self, collection: Collection) -> None:
        """Close the last shard. Items that no archive held become rejects."""
        if self._shard is not None:
            self._close()
        if collection.archives:
            for position, item in enumerate(collection.items):
                if position not in self.taken and position not in self._shard_taken:
                    self.reject(item.key, item.path, Reject("read", "no archive holds it"))

    def abandon(self) -> None:
        """Remove what is not finished."""
        if self._shard is not None:
            self._shard.abandon()

    def _close(self) -> None:
        assert self._shard is not None
        facts, index = self._shard.finish()
        write_whole(self._work / f"{facts.name}.index.part", index)
        counts = Counts.from_entries(self._shard.entries)
        record = journal.Record(facts, counts, self.archive, self.number, self._shard_taken, self._shard_rejects)
        self._shard = None  # with the record it is finished, and only to be moved
        journal.save_record(self._work, len(self.facts), record)
        self.facts.append(facts)
        self.counts.merge(counts)
        self.taken.update(self._shard_taken)
        self._shard_taken, self._shard_rejects = [], []
        self._publish(facts.name, facts.bytes, facts.index_bytes)

    def _publish(self, name: str, size: int, index_size: int) -> None:
        """Move a finished shard to its place, the index first. Existing files stay."""
        files = (
            (f"{name}.index.part", index_name(name), index_size),
            (f"{name}.part", name, size),
        )
        for part, final, expected in files:
            if (self._work / part).exists():
                self._target.move_in(self._work / part, final)
            elif self._there.get(final) != expected:
                raise ValueError(
                    f"{self._target.where}/{final} was finished, and is missing now or has another size: remove "
                    f"{self._work} and the shards to start anew"
                )


def _file_tasks(collection: Collection, packing: Packing, first: int) -> Iterator[PackTask]:
    items = collection.items
    if packing.shuffle:
        items = sorted(items, key=lambda item: hashlib.blake2b(item.key.encode(), digest_size=8).digest())
    for number in range(first, len(items)):
        yield PackTask(items[number], collection.root, number=number + 1)


def _archive_tasks(collection: Collection, first: int, skip: int, taken: set[int]) -> Iterator[PackTask]:
    """Yield the tasks of the archives, one archive after the other. A damaged archive becomes a reject, and so does
    every video that was not found in any. Texts, which no archive holds, come last.
    """
    wanted = {item.path: position for position, item in enumerate(collection.items)}
    seen = set(taken)
    for archive, file in enumerate(collection.archives[first:], first):
        try:
            for number, position, size, data in file.read(wanted, skip if archive == first else 0):
                if position in seen:
                    continue  # the first one of that name was taken
                seen.add(position)
                item = replace(collection.items[position], size=size)
                yield PackTask(item, collection.root, data, archive=archive, number=number, position=position)
        except ARCHIVE_ERRORS as error:
            if (sentence := file.lost(error)) is not None:
                raise StreamError(sentence) from error
            failed = Reject("read", f"the archive is damaged, what follows in it is lost: {error}")
            yield PackTask(Item("", file.name), collection.root, failed=failed, archive=archive + 1)
    for position, item in enumerate(collection.items):
        if item.text_alone and position not in seen:
            yield PackTask(item, collection.root, archive=len(collection.archives), position=position)


def _row_tasks(collection: Collection, first: int) -> Iterator[PackTask]:
    """Yield the tasks of a stream, from its ``first``-th sample on."""
    assert collection.rows is not None
    for number, row in enumerate(collection.rows.begin(first), first + 1):
        failed = None if row.failed is None else Reject("row", row.failed)
        yield PackTask(row.item, collection.root, row.data, failed, number=number)


def _died(task: PackTask) -> Reject:
    return Reject("crash", "the process that read it died")


def too_many(rejects: int, videos: int, most: float) -> bool:
    """Return whether more videos were rejected than the share ``most``, rounded up to whole videos."""
    return rejects > math.ceil(most * videos)
