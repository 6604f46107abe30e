"""Checks that end in every way there is, in a module that a new process imports in no time."""

import os
import time


def behave(what: str) -> None:
    """Die, hang, be wrong, or do nothing."""
    if what == "dies":
        os._exit(7)
    if what == "hangs":
        time.sleep(1000)
    if what == "wrong":
        raise AssertionError("1 is not 2")


def nothing() -> None:
    """Find the device healthy."""
