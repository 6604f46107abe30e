"""An interrupt from the keyboard that cannot get lost."""

import signal


class Interrupt:
    """Context that keeps a SIGINT from being lost. Python drops an exception that is raised while it runs a
    destructor or a weak reference's callback, so a KeyboardInterrupt at that moment vanishes. This context records
    the signal, and :meth:`check` raises it again.
    """

    def __init__(self):
        self._came = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a SIGINT came."""
        if self._came:
            raise KeyboardInterrupt

    def __enter__(self) -> "Interrupt":
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exc) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, signum: int, frame) -> None:
        self._came = True
        raise KeyboardInterrupt
