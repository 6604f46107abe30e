"""Stage "build": the native core for this card's architecture and no other, on all cores."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from tools.gpu.record import Task, stage

ROOT = Path(__file__).parents[2]


def main(task: Task) -> None:
    """Build the core in place, and load it in a new process; an older core does not outlive a failure."""
    environment = {**os.environ, **task.scale.build}
    if task.scale.device.kind == "cuda":
        major, minor = torch.cuda.get_device_capability()
        environment["FASTVID_CUDA_ARCHS"] = f"{major}{minor}-real"
        task.record.value("architecture", environment["FASTVID_CUDA_ARCHS"])
    for old in (ROOT / "fastvid").glob("_C.*"):  # else it would be measured where the build fails
        old.unlink()
    build = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout[-20000:], done.stderr[-20000:], sep="\n")
    if done.returncode:
        raise RuntimeError(f"setup.py ended with {done.returncode}: {first_error(done.stdout + done.stderr)}")
    look = "from fastvid import _native; print(_native.MISSING_REASON or _native.BUILD_INFO)"
    loaded = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=False)
    task.record.value("core", loaded.stdout.strip() or loaded.stderr.strip()[-300:])
    if "build_type" not in loaded.stdout:
        raise RuntimeError(f"the core does not load: {loaded.stdout.strip()} {loaded.stderr.strip()[-300:]}")


def first_error(output: str) -> str:
    """Return the line of a compiler's output that says what is wrong, or the last one."""
    lines = [line for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no output")


if __name__ == "__main__":
    sys.exit(stage(main))
