"""Batches with the latents of their views, read while the batch before is trained on."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import torch

from fastvid.command import UserError
from fastvid.data.loader.batch import Batch
from fastvid.data.loader.decode_ahead import NO_VIEW
from fastvid.data.loader.loader import TrainLoader
from fastvid.data.loader.order import LoaderState
from fastvid.data.loader.sampler import EpochSampler
from fastvid.latents.stores import LatentStore
from fastvid.latents.window import LatentWindow
from fastvid.random import sample_id
from fastvid.units import size


class LatentLoader:
    """A loader's batches with what a store has of their latents; used like the loader itself, which is closed with it,
    as is the store.

    A background thread takes the next batch and reads its latents, so that both overlap with training. ``state`` is
    that of the batch handed out, not of the one being read.

    Args:
        loader: the batches. It must draw the views that the store has.
        store: where latents are read. A :class:`LatentWindow` may lack some: then a batch has none, and whoever uses
            it adds them.
        device: where clips and latents are put; the loader's.

    Raises:
        KeyError, ValueError: from ``next``, where the store must have all views and lacks one of the batch, see
            :meth:`LatentCache.read`.
    """

    def __init__(
        self, loader: "TrainLoader | StoredViews", store: LatentStore | LatentWindow, device: torch.device | str = "cpu"
    ):
        self.loader, self.store, self._state = loader, store, loader.state
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="latents")
        self._next: Future[tuple[Batch, LoaderState]] | None = None

    @classmethod
    def from_store(
        cls,
        store: LatentStore,
        labels: Mapping[str, str],
        *,
        batch: int,
        seed: int,
        state: LoaderState | None = None,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> "LatentLoader":
        """Load what a store has of labelled clips: no video is opened. The order and the resume are those of
        :class:`fastvid.data.TrainLoader`; epoch e has view ``e % V`` of each clip.

        Args:
            store: where latents are read.
            labels: the clips to train on, by key: their classes. Those that lack a view in the store are left out.
            batch: clips per global batch; a multiple of ``world``.
            seed: seed of the order.
            state: where to begin.
            rank: this process's place among ``world``.
            world: processes that share the global batches.
            device: where latents and ids are put.

        Raises:
            UserError: the store has none of the clips.
            ValueError: the batch does not divide.
        """
        rows = sorted((key, hashes) for key, hashes in store.clips() if key in labels and NO_VIEW not in hashes)
        sampler = EpochSampler([len(rows)], batch=batch, seed=seed, rank=rank, world=world, start=state)
        return cls(StoredViews(rows, labels, sampler, store.manifest.view_bytes), store, device)

    @property
    def state(self) -> LoaderState:
        """Return the position after the batch handed out last, to resume at. All latents that were added to the store
        before are written then.
        """
        self.store.flush()
        return self._state

    @property
    def description(self) -> str:
        """Return a description for the log."""
        return (
            f"{self.loader.description}; with the latents read ahead, at most {size(self.ram_bound())} of clips and "
            "latents"
        )

    @property
    def clips_shown(self) -> int:
        """Return the clips handed out since the order began, by all processes together."""
        return self.loader.sampler.coverage(self._state).clips

    def ram_bound(self) -> int:
        """Return the most bytes of clips and latents that can exist at once. One more batch of clips waits for its
        latents.
        """
        latents = self.store.copies * self.store.manifest.view_bytes
        return self.loader.ram_bound() + self.loader.sampler.local * (self.loader.clip_bytes + latents)

    def worker_bytes(self) -> int:
        """Return the bytes of the decoding process; see :meth:`TrainLoader.worker_bytes`."""
        return self.loader.worker_bytes()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self.loader.closed:
            raise ValueError("the loader is closed")
        if self._next is None:
            self._next = self._pool.submit(self._read)
        batch, self._state = self._next.result()  # an error in the thread is raised here, now and at every later call
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            batch.record_stream(current)
        self._next = self._pool.submit(self._read)
        return batch

    def close(self) -> None:
        """Stop the thread, the loader and the store, after all added latents are written."""
        self.loader.close()  # first: it wakes the thread if that waits for a batch
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def _read(self) -> tuple[Batch, LoaderState]:
        with torch.cuda.stream(self._stream):  # of its own: copying must not wait for the training
            batch = next(self.loader)
            latents = self.store.for_batch(batch)
            batch.latents = None if latents is None else latents.to(self._device)
            batch.ids = batch.ids.to(self._device, non_blocking=True)
            return batch, self.loader.state


class StoredViews:
    """Batches of the views that a store has, without their pixels.

    Args:
        rows: key and view hashes of each clip, sorted.
        labels: class of each key.
        sampler: order of the rows.
        view_bytes: bytes of the latents of a view, for the log.

    Attributes:
        state: position after the batch handed out last.
    """

    clip_bytes = 0

    def __init__(
        self, rows: list[tuple[str, list[int]]], labels: Mapping[str, str], sampler: EpochSampler, view_bytes: int
    ):
        if not rows:
            raise UserError(f"none of the {len(labels)} training videos can be decoded: see bad_samples.jsonl")
        self.rows, self.sampler, self.state, self.closed = rows, sampler, sampler.start, False
        self._labels, self._view_bytes = labels, view_bytes

    @property
    def description(self) -> str:
        """Return a description for the log."""
        views = len(self.rows[0][1])
        return f"{views} view(s) of each of {len(self.rows)} clips as features of {size(self._view_bytes)}"

    def ram_bound(self) -> int:
        """Return 0: there are no clips."""
        return 0

    @property
    def clips_shown(self) -> int:
        """Return the clips handed out since the order began, by all processes together."""
        return self.sampler.coverage(self.state).clips

    def worker_bytes(self) -> int:
        """Return 0: there is no decoding process."""
        return 0

    def __next__(self) -> Batch:
        sampler = self.sampler
        begin, views = self.state, []
        for slot in range(sampler.rank, sampler.batch, sampler.world):
            position = sampler.advance(begin, slot)
            key, hashes = self.rows[sampler.index(position)]
            views.append((key, hashes[position.epoch % len(hashes)]))
        self.state = sampler.advance(begin, sampler.batch)
        return Batch(
            keys=[key for key, _ in views],
            ids=torch.tensor([sample_id(key) for key, _ in views]),
            view_hashes=torch.tensor([view_hash for _, view_hash in views]),
            labels=[self._labels[key] for key, _ in views],
            substitutes=[False] * len(views),
            repeats=[False] * len(views),
            windows=sampler.windows_of_batch(begin),
        )

    def close(self) -> None:
        """Refuse later batches."""
        self.closed = True
