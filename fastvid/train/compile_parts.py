"""Modules that say themselves what of them is compiled for training."""

from torch import nn


def compile_own_parts(module: nn.Module) -> bool:
    """Let a module with a method ``compile_parts`` compile its parts, and return whether it has one."""
    compile_parts = getattr(module, "compile_parts", None)
    if compile_parts is None:
        return False
    compile_parts()
    return True
