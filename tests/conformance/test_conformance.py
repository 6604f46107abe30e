"""One rule for every op, backend and dtype: error(kernel) <= 2 x error(reference of the same dtype), against float64.

On a GPU this runs there, in all dtypes. Without one it runs the native CPU kernels; the Triton kernels run in Triton's
interpreter, in a process of its own (test_interpreter.py).
"""

import pytest
import torch

from fastvid.ops._dispatch import CUDA_OPS, INTERPRETED
from tests.conformance.cases import CASES
from tests.conformance.checks import SEEDS, SPECS, check_error, check_masks

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BACKENDS = ["native", "triton"]
# The interpreter's bfloat16 is wrong without saying so.
DTYPES = [torch.float32, torch.float16] + ([] if INTERPRETED else [torch.bfloat16])


def skip_unless_usable(op: str, backend: str) -> None:
    if backend == "triton" and DEVICE == "cpu" and not INTERPRETED:
        pytest.skip("the interpreter has a process of its own")
    if backend == "native" and DEVICE == "cuda" and op not in CUDA_OPS:
        pytest.skip(f"{op} is a Triton kernel on GPUs")
    if backend == "native" and INTERPRETED:
        pytest.skip("tested outside the interpreter")


def cases_and_dtypes():
    """Every case in every dtype; in the interpreter, which takes seconds for each, float16 only in an op's first."""
    for name in CASES:
        first = next(other for other in CASES if other.split()[0] == name.split()[0])
        for dtype in DTYPES:
            if not INTERPRETED or dtype == torch.float32 or name == first:
                yield pytest.param(name, dtype, id=f"{name}-{str(dtype).removeprefix('torch.')}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "dtype"), cases_and_dtypes())
def test_error_is_at_most_twice_that_of_the_reference(name, backend, dtype, poisoned):
    skip_unless_usable(name.split()[0], backend)
    check_error(name, dtype, backend, DEVICE)


GRIDS = [((8, 14, 14), 1176, 392), ((8, 14, 14), 800, 240), ((3, 7, 5), 60, 30), ((2, 3, 5), 30, 0), ((1, 1, 1), 1, 0)]
LARGE = [((8, 14, 14), 1568, 0), ((16, 32, 32), 12288, 4096), ((32, 40, 40), 38400, 12800)]  # slow in the interpreter


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(("grid", "masked", "visible"), GRIDS + ([] if INTERPRETED else LARGE))
def test_masks_are_those_of_the_reference_bit_for_bit(name, grid, masked, visible, backend, poisoned):
    skip_unless_usable("multiblock_mask", backend)
    check_masks(name, grid, masked, visible, backend, DEVICE, SEEDS[:1] if INTERPRETED else SEEDS)
