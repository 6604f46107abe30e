"""Training batches of an order that goes through each window several times, with what is known of their latents."""

from dataclasses import dataclass

import torch

from fastvid.data.loader.batch import Batch
from fastvid.data.loader.loader import TrainLoader
from fastvid.data.loader.messages import Samples
from fastvid.data.loader.order import LoaderState
from fastvid.latents.loader import BatchesWithLatents, LatentBatch, fields_of
from fastvid.latents.window import LatentWindow


@dataclass(kw_only=True)
class WindowBatch(LatentBatch):
    """A batch whose ``latents`` may be unknown: then they have no rows.

    Attributes:
        known: whether the latents of all clips are there.
        hashes: of the views, where no GPU has to be waited for.
        window: number of the window that the batch's last clip is of.
    """

    known: bool
    hashes: list[int]
    window: int


class WindowLoader(BatchesWithLatents[WindowBatch]):
    """Batches with what a :class:`LatentWindow` has of their latents; it slides with the loader and is closed with it.

    ``state`` is told once all that was added to the window is written: a run that is resumed there finds it.

    Args:
        loader: with an ``echo``.
        window: where latents are read; whoever uses the batches adds those that are not known.
        device: where clips and latents are put; the loader's.
    """

    _LATENTS = 6  # three as of a cache; those just asked for; two batches that are written

    def __init__(self, loader: TrainLoader, window: LatentWindow, device: torch.device | str = "cpu"):
        self.window = window
        self._samples = Samples(loader.task)
        self._first = -1
        super().__init__(loader, window.manifest, device)

    @property
    def state(self) -> LoaderState:
        """Return the position after the batch handed out last, to resume at."""
        self.window.flush()
        return self._state

    @state.setter
    def state(self, state: LoaderState) -> None:
        self._state = state

    def close(self) -> None:
        """Stop the threads and the loader, after all added latents are written."""
        super().close()
        self.window.close()

    def _with_latents(self, batch: Batch, begin: LoaderState) -> WindowBatch:
        task = self.loader.task
        end = begin.advance(task.batch - 1, task.positions)
        first, last = self._samples.window_of(begin), self._samples.window_of(end)
        if first > self._first:
            # The last checkpoint may be of the window before. What is there of later ones at the start is not of this
            # order: the run went on from an older checkpoint, or with other windows.
            self.window.evict_outside(first - 1, last + 1 if self._first < 0 else None)
            self._first = first
        hashes = batch.view_hashes.tolist()
        latents, missing = self.window.read(batch.keys, hashes)
        if missing:
            latents = latents.rows(slice(0))
        return WindowBatch(
            **fields_of(batch), latents=latents.to(self._device), known=not missing, hashes=hashes, window=last
        )
