"""Wall-clock time by part of a step (data, forward, backward, optimizer), and clips per second end to end."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

log = logging.getLogger(__name__)

PARTS = ("data", "forward", "backward", "optimizer")


class StepTimer:
    """Measures the parts of training steps between two reports.

    On a GPU, parts are timed with events on the stream and read at the report, so that nothing waits for the device;
    waiting for data is always the host's clock. ``clips_per_s`` is clips over the wall-clock time since the last report
    or :meth:`reset`, whatever happened in it.

    Args:
        device: where the steps run.
    """

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self.reset()

    def reset(self) -> None:
        """Begin a new report."""
        self._started = time.perf_counter()
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self.clips = 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a part of a step."""
        if self._cuda and name != "data":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            yield
            end.record()
            self._events.append((name, start, end))
        else:
            started = time.perf_counter()
            yield
            self._seconds[name] += time.perf_counter() - started

    def report(self) -> dict[str, float]:
        """Return ``clips_per_s`` and ``share_<part>`` of the wall clock since the last report, which ends here."""
        if self._events:
            self._events[-1][2].synchronize()
            for name, start, end in self._events:
                self._seconds[name] += start.elapsed_time(end) / 1000
        wall = max(time.perf_counter() - self._started, 1e-9)
        out = {"clips_per_s": round(self.clips / wall, 2)}
        out |= {f"share_{name}": round(seconds / wall, 4) for name, seconds in self._seconds.items()}
        self.reset()
        return out


class SlowData:
    """Says once that loading clips is what a run waits for, and what to do: after five reports in a row in which more
    than half of the time was waiting for data."""

    _REPORTS, _SHARE = 5, 0.5

    def __init__(self) -> None:
        self._in_a_row, self._said = 0, False

    def see(self, share: float) -> None:
        """Take in the share of the time that a report says was spent on waiting for data."""
        self._in_a_row = self._in_a_row + 1 if share > self._SHARE else 0
        if self._in_a_row < self._REPORTS or self._said:
            return
        self._said = True
        log.warning(
            "decoding is the limit: %.0f%% of the time is waiting for clips. `python -m fastvid.data pack --transcode` "
            "makes videos that decode faster, --data.cache-gb keeps decoded ones, --data.threads uses more processors",
            100 * share,
        )
