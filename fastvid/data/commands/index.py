"""``python -m fastvid.data index``: indexes WebDataset tars in place."""

import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from fastvid.data.exit_codes import exit_codes
from fastvid.data.progress import Progress
from fastvid.data.shards.counts import Counts
from fastvid.data.shards.dataset_json import NAME, Dataset, ShardInfo, load_dataset, save_dataset
from fastvid.data.shards.index import build_index, index_bytes, index_path, save_index
from fastvid.data.sources.shard_folders import require_only_shards, shard_folders
from fastvid.data.walk import shards_in, walk
from fastvid.data.worker_pool import cores, in_order
from fastvid.files import sha256_of
from fastvid.names import spelled


@dataclass(frozen=True)
class IndexCommand:
    """Writes an index beside each tar of a folder, and a dataset.json. The tars are read and not changed; old and
    damaged indexes are replaced."""

    folder: tyro.conf.Positional[Path]
    """Holds the tars, or folders train, val and test of such."""
    accept_changed: bool = False
    """Also index shards that no longer have the bytes that dataset.json names."""
    jobs: int = field(default_factory=cores)
    """Processes; each takes a shard at a time."""
    video: str | None = None
    """Video to take of each sample, where they have several, such as left.mp4 for 0.left.mp4 beside 0.right.mp4."""


@dataclass(frozen=True)
class _Indexed:
    facts: ShardInfo
    counts: Counts
    index: bytes
    refused: list[str]


def index(
    folder: Path,
    accept_changed: bool = False,
    jobs: int = 0,
    progress: Progress | None = None,
    video: str | None = None,
) -> tuple[Dataset, list[str]]:
    """Index the tars of a folder. Nothing is written unless all of them can be indexed.

    Returns:
        The content of ``dataset.json``, and a sentence for each member that was refused.

    Raises:
        FileNotFoundError: there are no tars.
        ValueError: a tar cannot be read, or has changed since ``dataset.json`` was written; or there are videos beside
            the tars, or tars in folders below.
        OSError: the folder cannot be written.
    """
    tars = shards_in(folder) if folder.is_dir() else []
    if not tars:
        raise FileNotFoundError(_no_tars(folder))
    require_only_shards(folder)
    old, damaged = _old(folder)
    known = {shard.name: shard for shard in old.shards} if old is not None else {}
    indexed: list[_Indexed] = []
    for tar, result in in_order(functools.partial(_index_one, video=video), tars, jobs, _died):
        if isinstance(result, str):
            raise ValueError(result)
        then = known.get(tar.name)
        if then is not None and then.sha256 != result.facts.sha256 and not accept_changed:
            raise ValueError(
                f"{tar} no longer has the bytes that {NAME} names: copy it again; or, if it was changed on purpose, "
                "give --accept-changed"
            )
        indexed.append(result)
        if progress is not None:
            progress(len(indexed), len(tars))
    gone = sorted(known.keys() - {tar.name for tar in tars})
    if gone and not accept_changed:
        raise ValueError(
            f"{folder / gone[0]} is missing, and {NAME} names it: copy it again; or, if it was removed on purpose, "
            "give --accept-changed"
        )
    counts = Counts()
    for tar, one in zip(tars, indexed, strict=True):
        counts.merge(one.counts)
        if not save_index(tar, one.index):
            raise OSError(f"{index_path(tar)} cannot be written: indexes lie beside their shards")
    made_by = old.made_by if old is not None else {"command": "index"}
    if video is not None:
        made_by = {**made_by, "video": video}
    dataset = counts.dataset([one.facts for one in indexed], made_by)
    save_dataset(folder, dataset)
    return dataset, damaged + [sentence for one in indexed for sentence in one.refused]


def _no_tars(folder: Path) -> str:
    if folder.is_file():
        return f"{spelled(folder)} is a file: give the folder that holds the .tar files"
    left_out = walk(folder).left_out() if folder.is_dir() else ""
    return f"no .tar files in {spelled(folder)}" + (f"; {left_out}" if left_out else "")


def _old(folder: Path) -> tuple[Dataset | None, list[str]]:
    try:
        return load_dataset(folder), []
    except FileNotFoundError:
        return None, []
    except ValueError:
        return None, [
            f"{folder / NAME} was damaged or of another version; it could not be compared, and is written anew"
        ]


def _index_one(tar: Path, video: str | None) -> _Indexed | str:
    refused: list[str] = []
    try:
        entries = build_index(tar, refused.append, video)
        with tar.open("rb") as file:
            sha256, size = sha256_of(file), file.tell()
    except ValueError as error:
        return str(error)
    except OSError as error:
        return f"{tar} cannot be read: {error.strerror or error}"
    content = index_bytes(tar.name, size, entries)
    facts = ShardInfo(tar.name, len(entries), size, sha256, len(content), hashlib.sha256(content).hexdigest())
    return _Indexed(facts, Counts.from_entries(entries), content, refused)


def _died(tar: Path) -> str:
    return f"{tar}: the process that read it died: a video in it ends the decoder"


@exit_codes
def run(options: IndexCommand) -> int:
    """Run the command and return the exit code."""
    folder = options.folder.expanduser()
    for part in (shard_folders(folder) or {"": folder}).values():
        with Progress("shard") as progress:
            dataset, sentences = index(part, options.accept_changed, options.jobs, progress, options.video)
        for sentence in sentences:
            print(sentence)
        unreadable = dataset.codecs.get("unreadable", 0)
        print(f"{part}: {dataset.samples} videos in {len(dataset.shards)} shards are indexed")
        if unreadable:
            print(f"{unreadable} of them cannot be read: `python -m fastvid.data check {part}` names them")
    return 0
