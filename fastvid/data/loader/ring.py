"""Memory that a decoding process writes clips into and the training process reads them from."""

import mmap
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from fastvid import units

_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


class Ring:
    """A fixed number of slots of uint8 in memory shared with one child process.

    The memory has no name: nothing is left behind when a process dies, and neither the size of ``/dev/shm`` nor what
    other programs put there matters.

    Args:
        slots: how many.
        shape: shape of one slot, uint8.
        descriptor: of a ring that the parent process made; None makes one.
        lengths: of slots that differ in their first dimension, in turns; default: all have ``shape``.

    Attributes:
        bytes: size of all slots.
    """

    def __init__(
        self,
        slots: int,
        shape: tuple[int, ...],
        descriptor: int | None = None,
        lengths: Sequence[int] | None = None,
    ):
        rows = np.resize(np.array(lengths or shape[:1], np.int64), slots)
        starts = np.cumsum([0, *rows]) * int(np.prod(shape[1:]))
        size = self.bytes = int(starts[-1])
        self.descriptor = _anonymous_file(size) if descriptor is None else descriptor
        self._memory = mmap.mmap(self.descriptor, max(1, size))
        memory = np.frombuffer(self._memory, np.uint8)
        self._clips = [memory[begin:end].reshape(-1, *shape[1:]) for begin, end in pairwise(starts)]
        del memory

    @property
    def slots(self) -> int:
        """Return the number of clips that fit."""
        return len(self._clips)

    def slot(self, turn: int) -> np.ndarray:
        """Return the slot of the ``turn``-th clip; every ``slots``-th clip shares it."""
        return self._clips[turn % len(self._clips)]

    def close(self) -> None:
        """Release the memory; arrays of :meth:`slot` must not be used any more."""
        del self._clips
        self._memory.close()
        os.close(self.descriptor)


def _anonymous_file(size: int) -> int:
    free = _available_memory()
    if size > free:
        raise MemoryError(
            f"the clips that are decoded ahead need {units.size(size)} and {units.size(free)} of memory are free: "
            "lower the batch size or data.prefetch"
        )
    descriptor = os.memfd_create("fastvid-ring", os.MFD_CLOEXEC)
    try:
        # Taken now: memory that is not there is an error here, not a bus error at some later write.
        os.posix_fallocate(descriptor, 0, max(1, size))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _available_memory() -> int:
    """Return the bytes available without swapping, of the machine or of the container if that has less."""
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":", 1) for line in file)
    free = int(fields["MemAvailable"].split()[0]) * 1024
    for names in _LIMITS:
        try:
            limit, current = ((_CGROUP / name).read_text().strip() for name in names)
        except OSError:  # another version of cgroups, or none
            continue
        if limit != "max":
            free = min(free, max(0, int(limit) - int(current)))
    return free
