"""Precision of forward passes: float32, or bfloat16 under autocast. Weights stay float32."""

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype of autocast for ``auto``, ``float32`` or ``bfloat16``; None for float32 throughout."""
    if precision == "auto":
        # On a CPU bfloat16 pays only with matrix instructions for it, so there it has to be asked for.
        usable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if usable else None
    return torch.bfloat16 if precision == "bfloat16" else None


def precision_name(dtype: torch.dtype | None) -> str:
    """Return the name of the dtype of forward passes, such as ``bfloat16``."""
    return "float32" if dtype is None else str(dtype).removeprefix("torch.")


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Return the autocast context of a dtype; for None, one that does nothing."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
