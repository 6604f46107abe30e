"""Latents on the disk while they are needed: of the window of shards that is gone through, and of the one before."""

import contextlib
import logging
import os
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from fastvid.data.loader.batch import Batch, Latents
from fastvid.latents.file import (
    HEADER,
    LatentFile,
    LatentFileWriter,
    LatentIndex,
    empty_latents,
    remove_abandoned,
)
from fastvid.latents.manifest import MANIFEST, LatentManifest
from fastvid.units import size

log = logging.getLogger(__name__)

_ABOUT_A_CLIP = 512 + HEADER  # bytes of key, hash and checksum, and of a header, if it is alone in its file

_Place = tuple[str, int]  # key and view hash


class LatentWindow:
    """A store that slides along the order: what a batch adds belongs to the window it was drawn from, and is dropped
    when the order is two windows further. So a run that is resumed finds what it had when its checkpoint is not older
    than that.

    What is not there, or no more, is only missing: whoever reads has to be able to make it again. Several processes
    can share the folder; each sees what the others have written.

    Args:
        folder: folder of the files; made if it is not there. Files of another fingerprint are removed.
        manifest: what the latents depend on; one view of a clip is a row.
        most_bytes: the files together take at most. What goes beyond is not kept, which is warned about once.

    Attributes:
        copies: latents of a clip that can be in memory at once: three as of any store; those that the teacher has just
            computed; two batches that are being written.
    """

    copies = 6

    def __init__(self, folder: Path, manifest: LatentManifest, most_bytes: int):
        self.folder, self.manifest, self._most = folder, manifest, most_bytes
        folder.mkdir(parents=True, exist_ok=True)
        if not _belongs(folder, manifest):
            for path in [*folder.glob("*.safetensors"), folder / MANIFEST]:
                path.unlink(missing_ok=True)
        manifest.save(folder)
        self._files: dict[Path, LatentFile] = {}
        self._rows: dict[_Place, tuple[LatentFile, LatentIndex, int]] = {}
        self._pending: dict[_Place, Future[None]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="latent window")
        self._full = False
        self._first = -1  # window that is gone through
        self._stream: torch.cuda.Stream | None = None
        remove_abandoned(folder)
        self._refresh()

    def bytes(self) -> int:
        """Return the bytes that the files take now."""
        return bytes_in(self.folder)

    def for_batch(self, batch: Batch) -> Latents | None:
        """Slide to a batch, and return its latents, or None where some of them are missing."""
        first, last = batch.windows
        if first > self._first:
            # The last checkpoint may be of the window before. What is there of later ones at the start is not of this
            # order: the run went on from an older checkpoint, or with other windows.
            self.evict_outside(first - 1, last + 1 if self._first < 0 else None)
            self._first = first
        latents, missing = self.find(batch.keys, batch.view_hashes.tolist())
        return None if missing else latents

    def find(self, keys: Sequence[str], view_hashes: Sequence[int]) -> tuple[Latents, list[int]]:
        """Return the latents of these views, and which of them are missing: nothing was written to their rows.

        Waits for those that are still being written.
        """
        out = empty_latents(self.manifest, len(keys))
        places = list(zip(keys, view_hashes, strict=True))
        with self._lock:
            awaited = {self._pending[place] for place in places if place in self._pending}
        for writing in awaited:
            writing.result()
        if any(place not in self._rows for place in places):
            self._refresh()
        return out, [slot for slot, place in enumerate(places) if not self._read(place, out, slot)]

    def add(
        self,
        window: int,
        keys: Sequence[str],
        view_hashes: Sequence[int],
        latents: Latents,
        check: Callable[[Latents], None] = lambda latents: None,
    ) -> None:
        """Add views, written in the background.

        Args:
            window: number of the window, counted from the first epoch's first.
            keys: keys of the samples.
            view_hashes: of the view of each.
            latents: of these, not changed any more.
            check: called with them in the background before anything is written; may raise.

        Raises:
            Exception: what ``check`` raised for those added before.
        """
        self._collect(wait=len({*self._pending.values()}) > 1)  # one is written, one waits: memory is bounded
        device = latents.values.device
        ready = torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None
        writing = self._pool.submit(self._write, window, list(keys), list(view_hashes), latents, ready, check)
        with self._lock:
            self._pending |= dict.fromkeys(zip(keys, view_hashes, strict=True), writing)

    def flush(self) -> None:
        """Wait until all that was added is written."""
        self._collect(wait=True)

    def evict_outside(self, first: int, last: int | None = None) -> None:
        """Remove the latents of windows before ``first`` or after ``last``."""
        for path in self.folder.glob("*.safetensors"):
            window = int(path.name.split("-")[0])
            if window < first or (last is not None and window > last):
                path.unlink(missing_ok=True)
        self._refresh()

    def close(self) -> None:
        """Finish all writes."""
        self._pool.shutdown(wait=True)

    def _collect(self, wait: bool) -> None:
        done = {future for future in self._pending.values() if wait or future.done()}
        for future in done:
            future.result()
        with self._lock:
            self._pending = {place: future for place, future in self._pending.items() if future not in done}

    def _write(
        self,
        window: int,
        keys: list[str],
        hashes: list[int],
        latents: Latents,
        ready: torch.cuda.Event | None,
        check: Callable[[Latents], None],
    ) -> None:
        if ready is not None:
            self._stream = self._stream or torch.cuda.Stream(latents.values.device)
            self._stream.wait_event(ready)
        with torch.cuda.stream(self._stream):  # without a GPU there is none, and this does nothing
            latents = latents.to(torch.device("cpu"))
        check(latents)
        needed = len(keys) * (self.manifest.view_bytes + _ABOUT_A_CLIP)
        taken = self.bytes()
        if taken + needed > self._most:
            self._not_kept(f"{size(taken)} of {size(self._most)} are taken")
            return
        path = self.folder / f"{window:09d}-{os.getpid()}-{uuid.uuid4().hex[:12]}.safetensors"
        try:
            with LatentFileWriter(path, self.manifest) as file:
                for slot, (key, view_hash) in enumerate(zip(keys, hashes, strict=True)):
                    file.add(key, [view_hash], latents.rows(slice(slot, slot + 1)))
                file.commit(flushed=False)  # a crash of the machine may damage it, which its checksums tell
        except OSError as error:
            self._not_kept(str(error))
            return
        with self._lock:
            self._open(path)

    def _not_kept(self, why: str) -> None:
        if not self._full:
            log.warning("latents are not kept in %s (%s): the teacher will be asked for them again", self.folder, why)
        self._full = True

    def _read(self, place: _Place, out: Latents, slot: int) -> bool:
        found = self._rows.get(place)
        if found is None:
            return False
        file, index, row = found
        try:
            file.read(index, row, 0, out, slot)
            return True
        except FileNotFoundError:
            pass  # dropped by another process
        except ValueError as error:
            self._remove_damaged(file.path, error)
        self._refresh()
        return False

    def _refresh(self) -> None:
        """Update the list of files."""
        with self._lock:
            there = set(self.folder.glob("*.safetensors"))
            gone = self._files.keys() - there
            if gone:
                self._rows = {place: row for place, row in self._rows.items() if row[0].path not in gone}
                self._files = {path: file for path, file in self._files.items() if path not in gone}
            for path in sorted(there - self._files.keys()):
                self._open(path)

    def _open(self, path: Path) -> None:
        if path in self._files:
            return
        try:
            file = LatentFile(path, self.manifest)
            index = file.index()
        except FileNotFoundError:
            return
        except ValueError as error:
            self._remove_damaged(path, error)
            return
        self._files[path] = file
        for row, key in enumerate(index.keys):
            self._rows.setdefault((key, int(index.view_hashes[row, 0])), (file, index, row))

    def _remove_damaged(self, path: Path, error: ValueError) -> None:
        log.warning("%s; removed here, the teacher will be asked again", str(error).split(": delete it")[0])
        path.unlink(missing_ok=True)


def bytes_in(folder: Path) -> int:
    """Return the bytes that the latents in a folder take now, or 0 where there is no folder."""
    taken = 0
    for path in folder.glob("*.safetensors"):
        with contextlib.suppress(FileNotFoundError):  # dropped by another process
            taken += path.stat().st_size
    return taken


def window_bytes(shard_sizes: Sequence[int], window: int, view_bytes: int, batch: int) -> int:
    """Return the most bytes that a :class:`LatentWindow` takes: those of the largest two consecutive windows, and of
    the batches at their ends.

    Args:
        shard_sizes: samples of each shard.
        window: shards of a window.
        view_bytes: of the latents of one view.
        batch: clips of a batch.
    """
    return 2 * (sum(sorted(shard_sizes, reverse=True)[:window]) + batch) * (view_bytes + _ABOUT_A_CLIP)


def _belongs(folder: Path, manifest: LatentManifest) -> bool:
    """Return whether the folder is empty, or has latents of this kind."""
    try:
        return LatentManifest.load(folder).fingerprint == manifest.fingerprint
    except FileNotFoundError:
        return not any(folder.glob("*.safetensors"))
    except ValueError:
        return False
