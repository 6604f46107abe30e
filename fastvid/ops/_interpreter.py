"""Check of whether Triton's interpreter runs with the installed NumPy."""

import functools
import warnings

import numpy as np
import triton

_FIXED = (3, 7)  # the first Triton whose interpreter does not need what NumPy 2.4 took away


@functools.cache
def why_not() -> str | None:
    """Return None where the interpreter can run, or the reason why not."""
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) >= _FIXED or _one_element_is_a_number():
        return None
    return (
        f"the interpreter of triton {triton.__version__} takes arrays of one element for numbers, which NumPy "
        f"{np.__version__} refuses: install numpy<2.4, or a newer triton"
    )


def _one_element_is_a_number() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            int(np.ones(1))
        except TypeError:
            return False
    return True
