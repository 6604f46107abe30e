"""Arithmetic that autocast must not narrow."""

import contextlib

import torch


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """A context in which autocast is off; of devices that have none, such as meta, it is not asked for."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
