"""The rules of the conformance suite, for any backend on any device."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch

from fastvid.ops import MaskSpec, multiblock_mask
from fastvid.ops._dispatch import Backend
from tests.conformance.cases import CASES, How

SPECS = {
    "multiblock": MaskSpec.multiblock(),
    "many small blocks": MaskSpec.multiblock(temporal=(0.1, 0.5), area=(0.05, 0.4), aspect=(0.3, 3.0)),
    "salt": MaskSpec.salt(),
    "vjepa_short": MaskSpec.vjepa_short(),
    "vjepa_long tail": MaskSpec.vjepa_long(truncate="tail"),
    "random": MaskSpec.random(),
    "tube": MaskSpec.tube(),
}
SEEDS = ((2**61 + 7, 2**31 + 5), (0, 1))  # seed and draw


def check_error(name: str, dtype: torch.dtype, backend: Backend, device: str) -> None:
    """error(kernel) <= 2 x error(reference of the same dtype), against float64, of each result and gradient."""
    gold = _run(name, How(dtype, torch.float64, "reference", device))
    reference = _run(name, How(dtype, dtype, "reference", device))
    kernel = _run(name, How(dtype, dtype, backend, device))
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


def check_masks(name: str, grid, masked: int, visible: int, backend: Backend, device: str, seeds=SEEDS) -> None:
    """Masks of SPECS[name] are the reference's, bit for bit."""
    ids = torch.randint(2**62, (2,))
    for seed, draw in seeds:
        arguments = {"masked": masked, "visible": visible, "spec": SPECS[name], "seed": seed, "draw": draw}
        expected = multiblock_mask(ids, grid, backend="reference", **arguments)
        got = multiblock_mask(ids.to(device), grid, backend=backend, **arguments)
        assert torch.equal(got[0].cpu(), expected[0])
        assert torch.equal(got[1].cpu(), expected[1])


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fill what ``Tensor.new_empty`` returns, in which ops write their results, with NaN or a wild number."""
    plain = torch.Tensor.new_empty

    def new_empty(self, *args, **kwargs):
        out = plain(self, *args, **kwargs)
        if out.dtype.is_floating_point:
            return out.fill_(float("nan"))
        return out if out.dtype == torch.bool else out.fill_(torch.iinfo(out.dtype).max)

    with mock.patch.object(torch.Tensor, "new_empty", new_empty):
        yield
