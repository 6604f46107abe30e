"""``python -m fastvid.data pack``."""

import errno
import hashlib
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import av
import tyro

from fastvid.data.exit_codes import exit_codes
from fastvid.data.pack.folder import folder
from fastvid.data.pack.hf_rows import hf_rows
from fastvid.data.pack.interrupt import Interrupt
from fastvid.data.pack.item import Collection
from fastvid.data.pack.llava import llava
from fastvid.data.pack.ntu import ntu
from fastvid.data.pack.prepare import Treatment
from fastvid.data.pack.pt_shards import Picture, pt_shards
from fastvid.data.pack.run import REJECTS, Outcome, Packing, pack, too_many
from fastvid.data.pack.ssv2 import ssv2
from fastvid.data.pack.tables import table
from fastvid.data.pack.target import open_target
from fastvid.data.pack.ucf101 import ucf101
from fastvid.data.pack.webdataset import webdataset
from fastvid.data.progress import Progress
from fastvid.data.storage.remote import StreamError
from fastvid.data.worker_pool import cores
from fastvid.files import cache_dir
from fastvid.names import spelled
from fastvid.units import size
from fastvid.video.transcode import Normalisation

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class PackCommand:
    """Packs a collection of videos into tar shards with indexes and a dataset.json.

    Stopped at any moment, it goes on where it was when it is run again. The original bytes are kept unless --transcode
    is given. Videos that cannot be used are listed in rejects.jsonl, with the reason."""

    src: tyro.conf.Positional[str]
    """Folder with the collection; for csv, the table; for llava, a folder or a list, or the URL of a folder with lists
    and archives, such as hf://datasets/lmms-lab/LLaVA-Video-178K/0_30_s_academic_v0_1; for hf, the name of a data set,
    or a folder of it."""
    out: str
    """Folder for the shards, or a URL such as s3://bucket/folder."""
    format: Literal["folder", "csv", "ssv2", "ucf101", "ntu", "webdataset", "llava", "pt", "hf"] = "folder"
    """Layout of the collection; llava: json lists of conversations or captions, and the videos that they name; pt:
    shards of torch.save with frames, captions and latents; hf: a data set of Hugging Face, streamed."""
    hf_config: str | None = None
    """hf: configuration of the data set, where it has several."""
    hf_split: str = "train"
    """hf: split of the data set."""
    split: int = 1
    """ucf101: which of the three splits; makes the folders train and test. 0: all videos in one."""
    names: bool = False
    """ntu: label by the official names of the actions instead of A001, A002, ..."""
    video: str | None = None
    """webdataset: which video of each sample, where they have several, such as left.mp4 for 0.left.mp4."""
    texts: bool = False
    """llava: also pack conversations that are about no video and no image, as texts."""
    picture: Picture = "jpg"
    """pt: how frames are stored: jpg (quality 95, full colour), or png, which loses nothing."""
    root: Path | None = None
    """csv: folder that relative paths start from. Default: the table's."""
    order: Literal["mixed", "sorted"] = "mixed"
    """mixed: by a hash of the key, so that a shard holds all classes. sorted: by key. Archives keep their order."""
    shard_mb: int = 128
    """A shard is closed when it has grown past this, MiB."""
    jobs: int = field(default_factory=cores)
    """Processes; 0 works in the first one. The result does not depend on it."""
    verify: bool = True
    """Decode every frame of every video, and reject what fails."""
    transcode: bool = False
    """Encode anew: H.264 yuv420p, constant frame rate, a key frame every 12 frames, upright, no audio."""
    short_side: int = 256
    """--transcode: of the frames, pixels; smaller videos keep their size."""
    fps: int | None = None
    """--transcode: frames per second. Default: the source's, rounded."""
    crf: int = 23
    """--transcode: x264's quality, lower is better and larger."""
    max_rejects: float = 0.05
    """Share of the videos, rounded up to whole ones, that may be rejected before the exit code is 1."""
    work: Path | None = None
    """Folder for unfinished shards when --out is a URL. Default: in the cache directory."""


@exit_codes
def run(options: PackCommand) -> int:
    """Run the command and return the exit code."""
    try:
        options = _checked(options)
        code = 0
        for part, collection in _found(options).items():
            code = max(code, _pack_part(options, part, collection))
        return code
    except (FileNotFoundError, BrokenPipeError):
        raise
    except OSError as error:
        raise OSError(_sentence(error, options)) from error
    except StreamError as error:  # a store that failed, and not the user's fault
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: finished shards are kept, the same command goes on from there", file=sys.stderr)
        return 130


def _pack_part(options: PackCommand, part: str, collection: Collection) -> int:
    out = f"{options.out.rstrip('/')}/{part}" if part else options.out
    target = open_target(out)
    work = Path(out).expanduser() / ".pack"
    if "://" in out:
        digest = hashlib.blake2b(target.where.encode(), digest_size=6).hexdigest()
        work = (options.work or cache_dir() / "pack") / digest
    normal = Normalisation(options.short_side, options.fps, options.crf) if options.transcode else None
    packing = Packing(
        prefix=part or "shard",
        shard_bytes=options.shard_mb << 20,
        shuffle=options.order == "mixed",
        treatment=Treatment(options.verify, normal, options.picture),
        jobs=options.jobs,
    )
    for note in collection.notes:
        print(f"{note}")
    with Progress("video") as progress, Interrupt() as interrupt:

        def show(done: int, total: int) -> None:
            interrupt.check()
            progress(done, total)

        outcome = pack(collection, target, work, packing, _recorded(options), show)
    videos = len(collection.items)
    if collection.rows is not None:
        videos = outcome.dataset.samples + sum(outcome.rejects.values())
    return _report(options, target.where, videos, outcome)


def _report(options: PackCommand, where: str, videos: int, outcome: Outcome) -> int:
    dataset = outcome.dataset
    total = f"{dataset.samples} videos in {len(dataset.shards)} shards, {size(dataset.video_bytes)}"
    if outcome.new:
        print(f"{where}: {total}")
    else:
        print(f"{where}: nothing to do, all is packed already: {total}")
    rejects = sum(outcome.rejects.values())
    if rejects:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(outcome.rejects.items()))
        print(f"{rejects} of {videos} videos rejected ({reasons}): see {where}/{REJECTS}")
    if too_many(rejects, videos, options.max_rejects):
        print(
            f"that is more than {options.max_rejects:.1%}; the others are packed. If it is as it should be, give "
            f"--max-rejects {rejects / videos:.2f}",
            file=sys.stderr,
        )
        return 1
    return 0


def _recorded(options: PackCommand) -> dict[str, Any]:
    """Return the options that decide what is packed."""
    recorded: dict[str, Any] = {"format": options.format, "order": options.order, "shard_mb": options.shard_mb}
    if options.video is not None:
        recorded["video"] = options.video
    if options.format == "pt":
        recorded["picture"] = options.picture
    if options.format == "hf":
        recorded |= {"src": options.src, "hf_config": options.hf_config, "hf_split": options.hf_split}
    if options.texts:
        recorded["texts"] = True
    if options.transcode:
        names = ("short_side", "fps", "crf")
        recorded |= {"transcode": True, **{n: getattr(options, n) for n in names}, "encoder": f"PyAV {av.__version__}"}
    else:
        recorded |= {"transcode": False, "verify": options.verify}
    return recorded


def _found(options: PackCommand) -> dict[str, Collection]:
    """Return :func:`_collections`, with errors reported as faults of the source."""
    try:
        return _collections(options)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(
            f"{spelled(error.filename or options.src)} cannot be read: {error.strerror or error}; nothing was packed"
        ) from error


def _collections(options: PackCommand) -> dict[str, Collection]:
    """Return the parts of the collection, by their folders below --out."""
    if options.format == "hf":
        return hf_rows(options.src, options.hf_config, options.hf_split)
    if options.format == "llava" and "://" in options.src:
        return llava(options.src, options.texts)
    src = Path(options.src).expanduser()
    if not src.exists():
        raise FileNotFoundError(f"there is nothing at {src}")
    if options.format == "csv":
        return table(src, options.root)
    if options.format == "ucf101":
        return ucf101(src, options.split)
    if options.format == "ntu":
        return ntu(src, options.names)
    if options.format == "webdataset":
        return webdataset(src, options.video)
    if options.format == "llava":
        return llava(src, options.texts)
    return {"folder": folder, "ssv2": ssv2, "pt": pt_shards}[options.format](src)


def _checked(options: PackCommand) -> PackCommand:
    for name, value, good in (
        ("shard-mb", options.shard_mb, 1 <= options.shard_mb <= 4096),
        ("jobs", options.jobs, options.jobs >= 0),
        ("max-rejects", options.max_rejects, 0 <= options.max_rejects <= 1),
        ("split", options.split, 0 <= options.split <= 3),
    ):
        if not good:
            raise ValueError(f"--{name} {value} is out of range")
    return options


def _sentence(error: OSError, options: PackCommand) -> str:
    where = options.out if error.filename is None else error.filename
    if error.errno in _FULL:
        folder = Path(options.out).expanduser() if "://" not in options.out else cache_dir()
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        return (
            f"{where} cannot grow: {error.strerror} ({size(free)} free on {folder}). Finished shards are kept: "
            "make room and run the same command again, it goes on from there"
        )
    return f"{where} cannot be written: {error.strerror or error}. Finished shards are kept"
