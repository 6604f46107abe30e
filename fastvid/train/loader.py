"""The interface through which the training loop takes batches."""

from typing import Protocol

from fastvid.data import Batch, LoaderState


class Loader(Protocol):
    """An endless stream of batches on the device, in which the loss finds what it needs."""

    @property
    def state(self) -> LoaderState:
        """Return the position after the batch handed out last, to resume at."""
        ...

    @property
    def description(self) -> str:
        """Return a description for the log."""
        ...

    @property
    def clips_shown(self) -> int:
        """Return the clips handed out since the stage's first, by all processes and before a resume too."""
        ...

    def worker_bytes(self) -> int:
        """Return the bytes of the loader's decoding process, or 0 without one."""
        ...

    def __next__(self) -> Batch: ...

    def __enter__(self) -> "Loader": ...

    def __exit__(self, *exc: object) -> None: ...
