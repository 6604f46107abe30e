"""tools/gpu_check.sh selects what it says, which nobody sees on a machine without a GPU."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = (ROOT / "tools" / "gpu_check.sh").read_text()


def test_it_is_a_script():
    subprocess.run(["bash", "-n", str(ROOT / "tools" / "gpu_check.sh")], check=True)


def test_the_sanitizer_gets_the_cuda_kernels_of_every_op_that_has_one():
    command = re.search(r"compute-sanitizer --tool.*?-m pytest (.*?)>", SCRIPT, re.DOTALL)
    assert command is not None
    arguments = shlex.split(command[1].replace("\\\n", " "))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "--collect-only"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    for name in ("foveated_glimpse in CUDA", "multiblock_mask in CUDA", "foveated_glimpse float frames-native"):
        assert name in done.stdout
    assert "triton" not in done.stdout.lower()
