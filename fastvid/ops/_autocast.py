"""Arithmetic that autocast must not narrow."""

import contextlib

import torch


@torch.compiler.assume_constant_result  # torch 2.11 does not trace the question
def _has_autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device)


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """A context in which autocast is off; of devices that have none, such as meta, it is not asked for."""
    if not _has_autocast(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
