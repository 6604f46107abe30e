"""Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

import sys
import time

from tqdm import tqdm

_EVERY = 30.0  # seconds between lines


class Progress:
    """Shows how far something is.

    Args:
        unit: name of one counted thing, such as ``"video"``.

    Example:
        >>> with Progress("video") as progress:
        ...     progress(3, 10)
    """

    def __init__(self, unit: str):
        self.unit = unit
        self._bar: tqdm | None = None
        self._first: tuple[float, int] | None = None
        self._said = 0.0

    def __call__(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(total=total, initial=done, unit=self.unit, smoothing=0.05)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if self._first is None:
            self._first, self._said = (now, done), now
        elif now - self._said >= _EVERY:
            self._said = now
            rate = (done - self._first[1]) / (now - self._first[0])
            left = f", {(total - done) / rate / 60:.1f} minutes left" if rate else ""
            print(f"{done} of {total} {self.unit}s, {rate:.1f} a second{left}", file=sys.stderr, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.close()
