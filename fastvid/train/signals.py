"""Stopping in good order when asked to."""

import signal
from types import FrameType


class Stopped(Exception):
    """The run was asked to stop and has saved what it had.

    Attributes:
        signum: the signal; the process exits with 128 + signum.
    """

    def __init__(self, signum: int):
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class StopSignals:
    """Turns SIGTERM and SIGINT into a flag that the training loop looks at after each step; ignores SIGHUP, so that a
    closing shell takes nothing with it. A second SIGINT interrupts at once.

    Args:
        listen: from now on; else from :meth:`listen` on, and until then SIGTERM and SIGINT end the process.
    """

    def __init__(self, *, listen: bool = True):
        self.signum = 0
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if listen:
            self.listen()

    def listen(self) -> None:
        """Treat SIGTERM and SIGINT as requests to stop from now on."""
        signal.signal(signal.SIGTERM, self._request)
        signal.signal(signal.SIGINT, self._request)

    def _request(self, signum: int, frame: FrameType | None) -> None:
        if self.signum and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum

    def check(self) -> None:
        """Raise :class:`Stopped` if a signal came. For phases that have nothing to save."""
        if self.signum:
            raise Stopped(self.signum)
