"""Training batches of what a frozen model sees in clips: no video is opened."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch

from fastvid.command import UserError
from fastvid.data.loader.batch import BatchInfo
from fastvid.data.loader.order import EpochOrder, LoaderState
from fastvid.latents.file import NO_VIEW, Latents
from fastvid.latents.manifest import LatentManifest
from fastvid.random import sample_id


class LatentStore(Protocol):
    """Where latents are read: :class:`fastvid.latents.LatentCache` or :class:`fastvid.latents.MemoryLatents`."""

    @property
    def manifest(self) -> LatentManifest:
        """Return the manifest, which has what the latents depend on."""
        ...

    def clips(self) -> Iterator[tuple[str, list[int]]]:
        """Return the key and view hashes of each clip; the hash of a view that could not be decoded is -1."""
        ...

    def read(self, keys: Sequence[str], view_hashes: Sequence[int]) -> Latents:
        """Return the latents of these views."""
        ...


@dataclass(kw_only=True)
class FeatureBatch(BatchInfo):
    """Features of the B clips of a batch, and what identifies them.

    Attributes:
        latents: of one view of each clip.
    """

    latents: Latents


class FeatureLoader:
    """An endless stream of batches of features, in a global order that depends on nothing but the seed.

    The order and the resume are those of :class:`fastvid.data.TrainLoader`; epoch e has view ``e % V`` of each clip. A
    background thread reads one batch ahead.

    Args:
        store: where features are read.
        labels: the clips to train on, by key: their classes. Those that lack a view in the store are left out.
        batch: clips per global batch; a multiple of ``world``.
        seed: seed of the order.
        state: where to begin.
        rank: this process's place among ``world``.
        world: processes that share the global batches.
        device: where features, ids and view hashes are put.

    Attributes:
        clips: how many there are to train on.

    Raises:
        ValueError: the store has none of the clips, or the batch does not divide.
    """

    def __init__(
        self,
        store: LatentStore,
        labels: Mapping[str, str],
        *,
        batch: int,
        seed: int,
        state: LoaderState | None = None,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ):
        if batch < 1 or batch % world:
            raise ValueError(f"a global batch of {batch} clips does not divide among {world} processes")
        whole = [(key, hashes) for key, hashes in store.clips() if key in labels and NO_VIEW not in hashes]
        if not whole:
            raise UserError(f"none of the {len(labels)} training videos can be decoded: see bad_samples.jsonl")
        self._rows = sorted(whole)  # whatever order they were computed in
        self.store, self.clips, self.state = store, len(whole), state or LoaderState()
        self._labels, self._batch, self._seed = labels, batch, seed
        self._rank, self._world, self._device = rank, world, torch.device(device)
        self._orders: dict[int, EpochOrder] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="features")
        self._next: Future[tuple[FeatureBatch, LoaderState]] | None = None

    @property
    def description(self) -> str:
        """Return a description for the log."""
        m = self.store.manifest
        return f"{m.views_per_clip} view(s) of each of {self.clips} clips as features of {m.view_bytes / 1e3:.0f} kB"

    def worker_bytes(self) -> int:
        """Return 0: there is no helper process."""
        return 0

    def __iter__(self) -> Iterator[FeatureBatch]:
        return self

    def __next__(self) -> FeatureBatch:
        if self._next is None:
            self._next = self._pool.submit(self._read, self.state)
        batch, self.state = self._next.result()
        self._next = self._pool.submit(self._read, self.state)
        batch.latents = batch.latents.to(self._device)
        batch.ids, batch.view_hashes = batch.ids.to(self._device), batch.view_hashes.to(self._device)
        return batch

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "FeatureLoader":
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def _read(self, state: LoaderState) -> tuple[FeatureBatch, LoaderState]:
        rows = []
        for slot in range(self._rank, self._batch, self._world):
            position = state.advance(slot, self.clips)
            key, hashes = self._rows[self._order(position.epoch)[position.sample]]
            rows.append((key, hashes[position.epoch % len(hashes)]))
        keys, view_hashes = [key for key, _ in rows], [view_hash for _, view_hash in rows]
        batch = FeatureBatch(
            ids=torch.tensor([sample_id(key) for key in keys]),
            view_hashes=torch.tensor(view_hashes),
            keys=keys,
            labels=[self._labels[key] for key in keys],
            substitutes=[False] * len(keys),
            repeats=[False] * len(keys),
            latents=self.store.read(keys, view_hashes),
        )
        return batch, state.advance(self._batch, self.clips)

    def _order(self, epoch: int) -> EpochOrder:
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = EpochOrder(self._seed, epoch, [self.clips])
        return self._orders[epoch]
