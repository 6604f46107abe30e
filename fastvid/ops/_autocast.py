"""Arithmetic that autocast must not narrow."""

import contextlib
from typing import Any

import torch


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which autocast is off.

    The meta device has no autocast. It is tested by name, because torch 2.11 cannot trace
    ``torch.amp.is_autocast_available``.
    """
    if device.type == "meta":
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
