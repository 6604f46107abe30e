"""Waiting for other processes and threads: a slow machine fails nothing, only a hang does."""

import time
from collections.abc import Callable

HANG = 300.0  # seconds after which nothing will come any more


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.01)
