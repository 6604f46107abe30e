"""Fixtures of all tests."""

import os

import pytest
import torch

from fastvid import _native
from fastvid.ops._dispatch import HAS_TRITON, INTERPRETED
from tests.conformance.checks import poisoned_memory


def pytest_configure():
    """Where tests run side by side, each has a thread of arithmetic: OpenMP's threads wait for each other in loops."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _same_threads():
    """A run that sets its number of threads leaves it as it was: sums over other numbers of threads are rounded
    differently, and runs that another test compares bit for bit may be in this process and in others."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=INTERPRETED and HAS_TRITON)
def _watched_kernels():
    """Interpreted Triton kernels touch nothing but their tensors, and race for none of it."""
    from tests.conformance.interpreter_memory import watched

    with watched():
        yield


@pytest.fixture
def poisoned():
    """Fresh memory is NaN, or a wild number: an output element that nobody writes cannot pass for a right one."""
    with poisoned_memory():
        yield


@pytest.fixture(params=_native.CORE.usable_isas() if _native.CORE is not None else [])
def isa(request):
    """Runs a test once for each CPU kernel set that this processor can run."""
    assert _native.CORE is not None
    before = _native.CORE.isa()
    assert _native.CORE.use_isa(request.param)
    yield request.param
    _native.CORE.use_isa(before)
