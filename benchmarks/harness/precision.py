"""The precision in which two variants are compared before they are timed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Turn TF32 off in cuDNN's float32 convolutions: it has 3 digits, where matrix products have 7."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
