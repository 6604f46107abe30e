"""Training batches with the latents of their clips, read while the batch before is trained on."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Generic, Self, TypeVar

import torch

from fastvid.data.loader.batch import Batch
from fastvid.data.loader.loader import TrainLoader
from fastvid.data.loader.order import LoaderState
from fastvid.latents.disk_store import LatentCache
from fastvid.latents.file import Latents
from fastvid.latents.manifest import LatentManifest


@dataclass(kw_only=True)
class LatentBatch(Batch):
    """A batch and what a teacher sees in it.

    Attributes:
        latents: of exactly these views of these clips.
    """

    latents: Latents


B = TypeVar("B", bound=LatentBatch)


class BatchesWithLatents(ABC, Generic[B]):
    """A loader's batches with their latents; used like the loader itself, which belongs to it from then on.

    A background thread takes the next batch and reads its latents, so that both overlap with training. ``state`` is
    that of the batch handed out, not of the one being read.

    Args:
        loader: of the clips.
        manifest: of the latents.
        device: where they are put; the loader's.
    """

    _LATENTS = 3  # of a clip, that can exist at once

    def __init__(self, loader: TrainLoader, manifest: LatentManifest, device: torch.device | str = "cpu"):
        self.loader, self.manifest, self.state = loader, manifest, loader.state
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="latents")
        self._next: Future[tuple[B, LoaderState]] | None = None

    @abstractmethod
    def _with_latents(self, batch: Batch, begin: LoaderState) -> B:
        """Read the latents of the batch that begins at a position."""

    @property
    def description(self) -> str:
        """Return a description for the log."""
        return (
            f"{self.loader.threads} decoding threads, at most {self.ram_bound() / 1e6:.0f} MB of clips and latents in "
            "memory beside the decoding process (decode_mb in metrics.jsonl)"
        )

    def ram_bound(self) -> int:
        """Return the most bytes of clips and latents that can exist at once. Latents are those being read, those
        handed out, and those before them that the caller may still hold. One more batch of clips waits for its
        latents.
        """
        latents = self._LATENTS * self.manifest.view_bytes
        return self.loader.ram_bound() + self.loader.task.local * (self.loader.clip_bytes + latents)

    def worker_bytes(self) -> int:
        """Return the bytes of the decoding process; see :meth:`TrainLoader.worker_bytes`."""
        return self.loader.worker_bytes()

    def __iter__(self) -> Iterator[B]:
        return self

    def __next__(self) -> B:
        if self.loader.closed:
            raise ValueError("the loader is closed")
        if self._next is None:
            self._next = self._pool.submit(self._read)
        batch, self.state = self._next.result()  # an error in the thread is raised here, now and at every later call
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for tensor in (batch.clips, batch.ids, batch.view_hashes, *batch.latents.parts):
                tensor.record_stream(current)
        self._next = self._pool.submit(self._read)
        return batch

    def close(self) -> None:
        """Stop the thread and the loader."""
        self.loader.close()  # first: it wakes the thread if that waits for a batch
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def _read(self) -> tuple[B, LoaderState]:
        # On a stream of its own, where there is a GPU: waiting for the hashes must not wait for the training.
        with torch.cuda.stream(self._stream):
            begin = self.loader.state
            batch = next(self.loader)
            return self._with_latents(batch, begin), self.loader.state


class LatentLoader(BatchesWithLatents[LatentBatch]):
    """Batches with latents from a cache.

    Args:
        loader: must draw the cache's views: its ``view_seed`` and ``views`` are the manifest's.
        cache: where latents are read.
        device: where they are put; the loader's.

    Raises:
        KeyError, ValueError: from ``next``, where the cache lacks a clip or its view, see :meth:`LatentCache.read`.
    """

    def __init__(self, loader: TrainLoader, cache: LatentCache, device: torch.device | str = "cpu"):
        self.cache = cache
        super().__init__(loader, cache.manifest, device)

    def _with_latents(self, batch: Batch, begin: LoaderState) -> LatentBatch:
        latents = self.cache.read(batch.keys, batch.view_hashes.tolist()).to(self._device)
        return LatentBatch(**fields_of(batch), latents=latents)


def fields_of(batch: Batch) -> dict[str, Any]:
    """Return the fields that a batch with latents takes from the batch without."""
    return {f.name: getattr(batch, f.name) for f in fields(Batch)}
