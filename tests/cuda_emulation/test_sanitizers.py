"""The CUDA kernels under AddressSanitizer (and UBSan) and ThreadSanitizer: no access out of bounds, no race in a block.

Both take a process that starts with their library, in which test_kernels.py runs. Defects put in on purpose show that
they see what they are there to see.
"""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

from fastvid import _native
from tests.cuda_emulation.emulation import FEWER_THREADS, build, preload

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None or _native.CORE is None, reason="no g++ to build the kernels with, or no native core"
)


def sanitized(folder: Path, sanitizer: str, chosen: str, edits=FEWER_THREADS) -> subprocess.CompletedProcess:
    """Runs the chosen tests of test_kernels.py (as pytest's -k) with kernels built for a sanitizer."""
    environment = {
        **os.environ,
        "FASTVID_EMULATED_CUDA": str(build(folder, sanitizer, edits)),
        "LD_PRELOAD": preload(sanitizer),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1 halt_on_error=1",
        "OMP_NUM_THREADS": "1",
    }
    test = [sys.executable, "-m", "pytest", str(HERE / "test_kernels.py"), "-q", "-s", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*test, "-k", chosen, f"--junitxml={folder / 'report.xml'}"],
        env=environment, cwd=HERE.parents[1], capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


# A defect for each, put into the sum of the gaze's gradient and into the bounds of a tile.
DEFECTS = {
    "thread": ("  __syncthreads();\n  if (thread != 0) return;", "  if (thread != 0) return;"),
    "address": ("s.exists = s.i < a.size && s.k < a.size", "s.exists = true"),
}
REPORTS = {"thread": "ThreadSanitizer: data race", "address": "AddressSanitizer: heap-buffer-overflow"}


@pytest.mark.parametrize("sanitizer", DEFECTS)
def test_the_kernels_are_clean_and_a_defect_is_not(sanitizer, tmp_path):
    done = sanitized(tmp_path, sanitizer, "float32 or masks_are or wild or refused")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[:6000]
    cases = list(xml.parse(tmp_path / "report.xml").getroot().iter("testcase"))
    assert len(cases) > 10
    assert not [case.get("name") for case in cases if case.find("skipped") is not None]

    edits = {"foveated_glimpse_cuda.cu": [DEFECTS[sanitizer]]}
    done = sanitized(tmp_path, sanitizer, "glimpses_err and antialias and float32", edits)
    assert done.returncode != 0
    assert REPORTS[sanitizer] in done.stdout + done.stderr
