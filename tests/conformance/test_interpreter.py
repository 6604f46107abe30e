"""The Triton kernels without a GPU: the conformance suite in Triton's interpreter.

Triton decides when it is imported whether kernels are compiled or interpreted, hence a process of its own. The ops' own
tests run there too, but take ten minutes: ``TRITON_INTERPRET=1 pytest tests/ops -k triton``.
"""

from pathlib import Path

import pytest
import torch

from fastvid.ops import _interpreter
from tests.conformance.cases import CASES
from tests.conformance.process import run_tests

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(_interpreter.why_not() is not None, reason=str(_interpreter.why_not()))
@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels run on the GPU")
def test_the_triton_kernels_conform_in_the_interpreter(tmp_path):
    done, passed, skipped = run_tests(HERE, "triton", {"TRITON_INTERPRET": "1"}, tmp_path, f"--ignore={__file__}")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert all("bfloat16" in why for why in skipped.values())  # which the interpreter gets wrong
    for op in {name.split()[0] for name in CASES} | {"masks"}:
        assert any(op in name for name in passed), f"no Triton case of {op} was run"
