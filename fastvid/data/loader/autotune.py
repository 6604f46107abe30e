"""The number of decoding threads: as few as keep training from waiting."""

_GROW_AFTER, _SHRINK_AFTER = 2, 16  # consecutive batches


class Autotune:
    """Controller of the number of threads: one more when batches are waited for, one less when all of them keep running
    out of room.

    Fewer threads leave more of the CPU to training, which has to launch its kernels in time. The order of the
    clips does not depend on the number of threads.

    Args:
        threads: number at the start; there are never fewer than half of it.
        most: upper limit; the same number as ``threads`` fixes it.
    """

    def __init__(self, threads: int, most: int):
        self.threads, self.most = threads, max(threads, most)
        self.least = max(1, threads // 2) if most > threads else threads
        self._waited = self._idle = 0

    def batch(self, *, waited: bool, idle: bool) -> bool:
        """Count a batch that was handed out, and return whether the number of threads changed.

        Args:
            waited: whether the training had to wait for it.
            idle: whether all clips that there was room for were decoded already.
        """
        before = self.threads
        self._waited = self._waited + 1 if waited else 0
        self._idle = self._idle + 1 if idle and not waited else 0
        if self._waited >= _GROW_AFTER and self.threads < self.most:
            self.threads, self._waited = self.threads + 1, 0
        elif self._idle >= _SHRINK_AFTER and self.threads > self.least:
            self.threads, self._idle = self.threads - 1, 0
        return self.threads != before
