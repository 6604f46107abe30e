"""Argument checks and error messages that several ops share."""

from collections.abc import Sequence

import torch


def tensors(op: str, **arguments: object) -> None:
    """Check that the arguments are tensors, or None where that is allowed. Arrays and lists are not converted."""
    for name, x in arguments.items():
        if not isinstance(x, torch.Tensor):
            kind = type(x) if type(x).__module__ != "builtins" else None
            got = f"{kind.__module__}.{kind.__qualname__}" if kind else type(x).__name__
            hint = "torch.from_numpy" if got == "numpy.ndarray" else "torch.tensor"
            raise TypeError(f"{op}: {name} must be a torch.Tensor, got {got}; convert it with {hint}({name})")


def index_dtype(op: str, name: str, index: torch.Tensor) -> None:
    """Check that indices are int64, as everywhere in PyTorch."""
    if index.dtype != torch.int64:
        raise TypeError(f"{op}: {name} must be int64, got {index.dtype}; convert it with {name}.long()")


def devices_error(op: str, **tensors: torch.Tensor) -> ValueError:
    """Return the error for tensors of one call that are on different devices."""
    places = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
    return ValueError(f"{op}: tensors must be on one device; got {places}")


def normalization(op: str, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> None:
    """Check that there is a mean and a standard deviation per channel, and that the dtype is floating point."""
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"{op}: mean and std must be three numbers each, std positive; got {mean} and {std}")
    if not dtype.is_floating_point:
        raise TypeError(f"{op}: dtype must be a floating point type, got {dtype}")


def index_error(op: str, name: str, index: torch.Tensor, position: int, n: int) -> IndexError:
    """Return the error for an index value outside [0, n) at a flat position of a [B, K] index."""
    row, column = divmod(position, index.shape[1])
    value = int(index.reshape(-1)[position])
    return IndexError(f"{op}: {name}[{row}, {column}] is {value}, outside [0, {n})")
