"""The Triton kernels without a GPU: the conformance suite in Triton's interpreter.

Triton decides when it is imported whether kernels are compiled or interpreted, hence a process of its own. The ops' own
tests run there too, but take ten minutes: ``TRITON_INTERPRET=1 pytest tests/ops -k triton``.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
import torch

from tests.conformance.cases import CASES

HERE = Path(__file__).parent


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels run on the GPU")
def test_the_triton_kernels_conform_in_the_interpreter(tmp_path):
    report = tmp_path / "report.xml"
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", str(HERE), "-q", "-k", "triton",
            "-p", "no:cacheprovider", f"--ignore={__file__}", f"--junitxml={report}",
        ],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed, skipped = set(), set()
    for case in xml.parse(report).getroot().iter("testcase"):
        skip = case.find("skipped")
        if skip is None:
            passed.add(case.get("name"))
        elif "bfloat16" not in skip.get("message"):  # which the interpreter gets wrong
            skipped.add(case.get("name"))
    assert not skipped
    for op in {name.split()[0] for name in CASES} | {"masks"}:
        assert any(op in name for name in passed), f"no Triton case of {op} was run"
