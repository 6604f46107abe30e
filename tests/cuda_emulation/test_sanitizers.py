"""The CUDA kernels under AddressSanitizer (and UBSan) and ThreadSanitizer: no access out of bounds, no race in a block.

Both take a process that starts with their library, in which test_kernels.py runs. Defects put in on purpose show that
they see what they are there to see.
"""

from pathlib import Path

import pytest

from tests.conformance.process import Outcome, run_tests
from tests.cuda_emulation.emulation import FEWER_THREADS, NEEDS_BUILDING, build, preload

KERNELS = Path(__file__).with_name("test_kernels.py")

pytestmark = [NEEDS_BUILDING, pytest.mark.slow]


def sanitized(folder: Path, sanitizer: str, chosen: str, edits) -> Outcome:
    """Runs the chosen tests of test_kernels.py with kernels built for a sanitizer."""
    environment = {
        "FASTVID_EMULATED_CUDA": str(build(folder, sanitizer, edits)),
        "LD_PRELOAD": preload(sanitizer),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1 halt_on_error=1",
    }
    return run_tests(KERNELS, chosen, environment, folder, "-s", seconds=300)


@pytest.mark.parametrize(
    ("sanitizer", "chosen", "right", "wrong", "report"),
    [
        (
            "thread",  # the sum of the gaze's gradient
            "(float32 and not far) or masks_are",
            "  __syncthreads();\n  if (thread != 0) return;",
            "  if (thread != 0) return;",
            "ThreadSanitizer: data race",
        ),
        (
            "address",  # the bounds of a tile
            "(float32 and not far) or masks_are or wild or refused",
            "if (i >= size || k >= size) continue;",
            "",
            "AddressSanitizer: heap-buffer-overflow",
        ),
    ],
    ids=["thread", "address"],
)
def test_the_kernels_are_clean_and_a_defect_is_not(sanitizer, chosen, right, wrong, report, tmp_path):
    done, passed, skipped = sanitized(tmp_path, sanitizer, chosen, FEWER_THREADS)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[:6000]
    assert len(passed) >= 10
    assert not skipped

    edits = {**FEWER_THREADS, "foveated_glimpse_cuda.cu": [(right, wrong)]}
    done, *_ = sanitized(tmp_path, sanitizer, "glimpses_err and antialias and float32", edits)
    assert done.returncode != 0
    assert report in done.stdout + done.stderr
