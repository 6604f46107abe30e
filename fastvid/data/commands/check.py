"""``python -m fastvid.data check``: compares shards with their recorded checksums."""

import functools
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro

from fastvid.data.exit_codes import exit_codes
from fastvid.data.progress import Progress
from fastvid.data.shards.dataset_json import NAME, Dataset, ShardInfo, load_dataset
from fastvid.data.shards.entry import Entry
from fastvid.data.shards.index import ShardIndex, index_name
from fastvid.data.shards.reader import check_index
from fastvid.data.sources.shard_folders import shard_folders
from fastvid.data.worker_pool import cores, in_order
from fastvid.files import sha256_of
from fastvid.video import DecodeError, Limits
from fastvid.video.verify import verify

_ROWS = 32  # samples per task
_COPY_AGAIN = "copy it again from where it came, or pack anew"
_INDEX_AGAIN = "copy it again, or run `python -m fastvid.data index` on the folder"


@dataclass(frozen=True)
class CheckCommand:
    """Compares the shards and indexes of a folder with the checksums in its dataset.json, and decodes every video and
    compares its checksum and frame count. Prints a line per fault; the exit code is 1 if there is any.
    """

    folder: tyro.conf.Positional[Path]
    """Holds the shards and their dataset.json, or folders train, val and test of such."""
    quick: bool = False
    """Compare checksums only: no video is decoded."""
    jobs: int = field(default_factory=cores)
    """Processes."""


@dataclass(frozen=True)
class Fault:
    """A fault in a data set: the file, the sample, what is wrong, and what to do."""

    file: str
    key: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.key, self.what, self.remedy) if part)


@dataclass(frozen=True)
class _Task:
    shard: ShardInfo
    first: int | None  # key of the sample; None: the shard as a whole
    end: int = 0


def check(folder: Path, quick: bool = False, jobs: int = 0, progress: Progress | None = None) -> Iterator[Fault]:
    """Look for faults in a folder of shards, or in its parts train, val and test. Memory: one video per process.

    Raises:
        FileNotFoundError: there is no ``dataset.json``.
        ValueError: a folder cannot be read, or there are shards beside the parts.
    """
    datasets: dict[str, Dataset | Fault] = {}
    parts = shard_folders(folder) or {"": folder}
    for name, part in parts.items():
        try:
            datasets[name] = load_dataset(part)
        except ValueError as error:
            datasets[name] = Fault(NAME, "", str(error), "")
    for name, part in parts.items():
        dataset = datasets[name]
        found = [dataset] if isinstance(dataset, Fault) else _check_folder(part, dataset, quick, jobs, progress)
        for fault in found:
            yield replace(fault, file=f"{name}/{fault.file}") if name else fault


def _check_folder(folder: Path, dataset: Dataset, quick: bool, jobs: int, progress: Progress | None) -> Iterator[Fault]:
    known = {shard.name for shard in dataset.shards}
    for tar in sorted(folder.glob("*.tar")):
        if tar.name not in known:
            yield Fault(tar.name, "", f"{NAME} does not name it", "run `python -m fastvid.data index` on the folder")
    tasks = [_Task(shard, None) for shard in dataset.shards]
    tasks += [_Task(s, i, min(i + _ROWS, s.samples)) for s in dataset.shards for i in range(0, s.samples, _ROWS)]
    done = 0
    for task, faults in in_order(functools.partial(_faults, folder=folder, quick=quick), tasks, jobs, _died):
        yield from faults
        if task.first is not None:
            done += task.end - task.first
            if progress is not None:
                progress(done, dataset.samples)


def _faults(task: _Task, folder: Path, quick: bool) -> list[Fault]:
    if task.first is None:
        return [*_shard_faults(folder / task.shard.name, task.shard), *_index_faults(folder, task.shard)]
    try:
        index = _index(folder, task.shard)
        with (folder / task.shard.name).open("rb") as file:
            return [
                fault for row in range(task.first, task.end) for fault in _row_faults(index, row, file, task, quick)
            ]
    except (OSError, ValueError):
        return []  # reported for the whole shard already


def _row_faults(index: ShardIndex, row: int, file, task: _Task, quick: bool) -> Iterator[Fault]:
    try:
        entry = index[row]
    except ValueError as error:
        yield Fault(index_name(task.shard.name), f"sample {row}", str(error), "")
        return
    yield from _sample_faults(entry, file, task.shard.name, quick)


def _sample_faults(entry: Entry, file, shard: str, quick: bool) -> Iterator[Fault]:
    if entry.video is None and not entry.text_alone:
        yield Fault(
            shard, entry.key, "it could not be read when it was indexed", "remove it from the shard, or pack anew"
        )
        return
    if entry.size > Limits().bytes:
        yield Fault(
            shard, entry.key, f"it has {entry.size} bytes; the limit is {Limits().bytes}", "cut it, and pack anew"
        )
        return
    file.seek(entry.offset)
    data = file.read(entry.size)
    if len(data) != entry.size or zlib.crc32(data) != entry.crc32:
        what = f"the {entry.size} bytes at {entry.offset} are not those that were indexed (crc32)"
        yield Fault(shard, entry.key, what, _COPY_AGAIN)
        return
    if quick or entry.video is None:
        return
    try:
        verify(data, entry.video)  # by the frame table that training uses
    except DecodeError as error:
        remedy = "remove it from the source, and pack anew with --verify"
        if error.reason == "frame_count":
            remedy = "run `python -m fastvid.data index` on the folder, or pack anew"
        yield Fault(shard, entry.key, str(error), remedy)


def _shard_faults(path: Path, shard: ShardInfo) -> Iterator[Fault]:
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            yield Fault(shard.name, "", f"it has {size} bytes and {NAME} says {shard.bytes}", _COPY_AGAIN)
            return
        with path.open("rb") as file:
            sha256 = sha256_of(file)
    except OSError as error:
        yield Fault(shard.name, "", f"it cannot be read: {error.strerror or error}", _COPY_AGAIN)
        return
    if sha256 != shard.sha256:
        yield Fault(shard.name, "", f"its bytes are not those that {NAME} names (sha256)", _COPY_AGAIN)


def _index_faults(folder: Path, shard: ShardInfo) -> Iterator[Fault]:
    try:
        index = _index(folder, shard)
        if len(index) != shard.samples:
            yield Fault(
                index_name(shard.name), "", f"{len(index)} samples where {NAME} says {shard.samples}", _INDEX_AGAIN
            )
    except OSError as error:
        yield Fault(index_name(shard.name), "", f"it cannot be read: {error.strerror or error}", _INDEX_AGAIN)
    except ValueError as error:
        yield Fault(index_name(shard.name), "", str(error), "")


def _index(folder: Path, shard: ShardInfo) -> ShardIndex:
    path = folder / index_name(shard.name)
    return check_index(path.read_bytes(), str(path), shard)


def _died(task: _Task) -> list[Fault]:
    where = "" if task.first is None else f"samples {task.first} to {task.end - 1}"
    return [Fault(task.shard.name, where, "the process that checked it died", "pack anew with --transcode")]


@exit_codes
def run(options: CheckCommand) -> int:
    """Run the command and return the exit code."""
    count = 0
    with Progress("video") as progress:
        for fault in check(options.folder.expanduser(), options.quick, options.jobs, progress):
            print(fault)
            count += 1
    if count:
        print(f"{count} faults in {options.folder}", file=sys.stderr)
        return 1
    print(f"{options.folder}: no faults" + (" in the checksums; nothing was decoded" if options.quick else ""))
    return 0
