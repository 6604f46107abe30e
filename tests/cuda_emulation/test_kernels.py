"""The CUDA kernels, thread by thread on a CPU, under the conformance suite's rules.

test_sanitizers.py runs this once more under each sanitizer.
"""

import os
from pathlib import Path

import pytest
import torch

from fastvid.ops import MaskSpec, foveated_glimpse, multiblock_mask
from tests.conformance.cases import CASES
from tests.conformance.checks import SEEDS, SPECS, check_error, check_masks
from tests.cuda_emulation.emulation import NEEDS_BUILDING, build, emulated_cuda, load

pytestmark = [NEEDS_BUILDING, pytest.mark.slow]


@pytest.fixture(scope="session")
def module(tmp_path_factory):
    built = os.environ.get("FASTVID_EMULATED_CUDA")
    return load(Path(built) if built else build(tmp_path_factory.mktemp("emulated"), "", {}))


@pytest.fixture(autouse=True)
def _on_the_emulation(module, poisoned):
    with emulated_cuda(module):
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=lambda d: str(d)[6:])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("foveated_glimpse")])
def test_glimpses_err_at_most_twice_as_much_as_the_reference(name, dtype):
    check_error(name, dtype, "native", "cpu")


@pytest.mark.parametrize("name", SPECS)
def test_masks_are_those_of_the_reference(name):
    check_masks(name, (3, 7, 5), 60, 30, "native", "cpu", SEEDS[:1])


def test_masks_at_the_size_of_a_vit():
    check_masks("salt", (8, 14, 14), 1176, 392, "native", "cpu", SEEDS[:1])


def test_a_grid_larger_than_the_shared_memory_is_refused():
    ids = torch.arange(1)
    with pytest.raises(RuntimeError, match="shared memory"):
        multiblock_mask(ids, (64, 64, 64), masked=100, visible=100, seed=0, draw=0, backend="native")
    spec = MaskSpec.random()  # the refusal is not the next call's
    multiblock_mask(ids, (2, 3, 5), masked=20, visible=10, spec=spec, seed=0, draw=0, backend="native")


@pytest.mark.parametrize("gaze", [(float("nan"), 0.5), (0.0, -1.0), (9.0, 0.5), (0.0, 1e9), (float("inf"), 0.5)])
def test_a_wild_gaze_reads_no_wild_pixel(gaze):
    """As the reference says, and under AddressSanitizer nothing outside the frame is touched."""
    x, side = gaze
    frames = torch.randint(256, (1, 1, 7, 9, 3), dtype=torch.uint8)
    center, scale = torch.full((1, 1, 1, 2), x).requires_grad_(), torch.full((1, 1, 1), side).requires_grad_()
    for padding in ("border", "zeros"):
        options = {"size": 5, "levels": 2, "padding": padding}
        out = foveated_glimpse(frames, center, scale, **options, backend="native")
        out.sum().backward()
        if x != float("inf"):  # which the reference takes for the frame's end, and the kernels for no place at all
            expected = foveated_glimpse(frames, center, scale, **options, backend="reference")
            torch.testing.assert_close(out, expected, equal_nan=True)
