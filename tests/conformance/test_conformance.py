"""One rule for every op, backend and dtype: error(kernel) <= 2 x error(reference of the same dtype), against float64.

On a GPU this runs there, in all dtypes. Without one it runs the native CPU kernels; the Triton kernels run in Triton's
interpreter, in a process of its own (test_interpreter.py).
"""

import pytest
import torch

from fastvid.ops import MaskSpec, multiblock_mask
from fastvid.ops._dispatch import CUDA_OPS, INTERPRETED
from tests.conformance.cases import CASES, How

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


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_error_is_at_most_twice_that_of_the_reference(name, backend, dtype, poisoned):
    skip_unless_usable(name.split()[0], backend)
    gold, reference, kernel = (
        _run(name, How(dtype, compute, which, DEVICE))
        for compute, which in ((torch.float64, "reference"), (dtype, "reference"), (dtype, backend))
    )
    for part, expected in gold.items():
        result = kernel[part]
        assert result.dtype == reference[part].dtype
        assert result.shape == expected.shape
        error, allowed = ((x[part].double() - expected).norm() for x in (kernel, reference))
        # Where the reference happens to be exact, an ulp of the result is allowed.
        slack = torch.finfo(result.dtype).eps * expected.norm()
        assert error <= 2 * allowed + slack, f"{part}: {error:.3g} against {allowed:.3g} of the reference"


def _run(name: str, how: How) -> dict[str, torch.Tensor]:
    torch.manual_seed(len(name))
    return CASES[name](how)


SPECS = {
    "multiblock": MaskSpec.multiblock(),
    "many small blocks": MaskSpec.multiblock(temporal=(0.1, 0.5), area=(0.05, 0.4), aspect=(0.3, 3.0)),
    "salt": MaskSpec.salt(),
    "vjepa_short": MaskSpec.vjepa_short(),
    "vjepa_long tail": MaskSpec.vjepa_long(truncate="tail"),
    "random": MaskSpec.random(),
    "tube": MaskSpec.tube(),
}
GRIDS = [((8, 14, 14), 1176, 392), ((8, 14, 14), 800, 240), ((3, 7, 5), 60, 30), ((2, 3, 5), 30, 0), ((1, 1, 1), 1, 0)]
LARGE = [((8, 14, 14), 1568, 0), ((16, 32, 32), 12288, 4096), ((32, 40, 40), 38400, 12800)]  # slow in the interpreter


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(("grid", "masked", "visible"), GRIDS + ([] if INTERPRETED else LARGE))
def test_masks_are_those_of_the_reference_bit_for_bit(name, grid, masked, visible, backend, poisoned):
    skip_unless_usable("multiblock_mask", backend)
    ids = torch.randint(2**62, (2,))
    for seed, draw in ((2**61 + 7, 2**31 + 5), (0, 1))[: 1 if INTERPRETED and grid == (8, 14, 14) else 2]:
        arguments = {"masked": masked, "visible": visible, "spec": SPECS[name], "seed": seed, "draw": draw}
        expected = multiblock_mask(ids, grid, backend="reference", **arguments)
        got = multiblock_mask(ids.to(DEVICE), grid, backend=backend, **arguments)
        assert torch.equal(got[0].cpu(), expected[0])
        assert torch.equal(got[1].cpu(), expected[1])
