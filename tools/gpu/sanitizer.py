"""Stage "sanitizer": the native CUDA kernels of the smoke test under compute-sanitizer, memcheck and then racecheck."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

from tools.gpu.record import Task, one_line, stage
from tools.gpu.runner import run
from tools.gpu.smoke_checks import missing

TOOLS = ("memcheck", "racecheck")
KERNELS = ("foveated_glimpse", "multiblock_mask")  # parts of the names of the kernels that are watched: ours
FOUND = 9  # its exit code where it finds something


def main(task: Task) -> None:
    """Run both tools, each in half of the time."""
    native = missing(task.scale.device.kind).get("native")
    if native:
        task.record.value("not run", f"no native kernel: {native}")
        return
    program = find_program()
    if program is None and task.scale.device.kind == "cuda":
        task.record.value("not run", "compute-sanitizer is neither on the PATH nor beside nvcc")
        return
    for left, tool in zip((2, 1), TOOLS, strict=True):
        with task.record.part(tool):
            watch(task, tool, program if task.scale.device.kind == "cuda" else None, (task.left - 3) / left)


def find_program() -> str | None:
    """Find compute-sanitizer on the PATH or where CUDA is installed."""
    folders = [Path(home) / "bin" for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]
    nvcc = shutil.which("nvcc")
    if nvcc:
        folders.append(Path(nvcc).resolve().parent)
    beside = [folder / "compute-sanitizer" for folder in folders]
    return shutil.which("compute-sanitizer") or next((str(path) for path in beside if path.exists()), None)


def prefix(program: str, tool: str) -> list[str]:
    """Return the command that runs another one under a tool."""
    watched = [argument for name in KERNELS for argument in ("--kernel-name", f"kernel_substring={name}")]
    return [program, "--tool", tool, "--error-exitcode", str(FOUND), "--target-processes", "application-only", *watched]


def watch(task: Task, tool: str, program: str | None, seconds: float) -> None:
    """Run the native part of the smoke test under a tool, on a CPU without it; raises where something is found."""
    inner, log = task.work / f"{tool}.json", task.work / "logs" / f"{tool}.log"
    inner.unlink(missing_ok=True)
    command = [
        *(prefix(program, tool) if program else []), sys.executable, "-m", "tools.gpu.smoke", "--record", str(inner),
        "--results", str(task.results), "--work", str(task.work), "--until", f"{time.time() + seconds:.1f}",
        *(["--rehearse"] if task.scale.device.kind == "cpu" else []),
    ]  # fmt: skip
    # Each tensor an allocation of its own: in a pool, what lies beyond one is another one's memory and no error.
    ended = run(command, seconds, log, {"FASTVID_SMOKE": "native", "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
    content = json.loads(inner.read_text()) if inner.exists() else {"values": {}, "failures": []}
    passed, checks = sum(content["values"].get("passed", {}).values()), content["values"].get("checks", 0)
    task.record.value(
        tool, f"{passed} of {checks} checks passed in {ended.seconds:.0f} s" + ("" if program else ", without it")
    )
    for failure in content["failures"]:
        task.record.fail(f"{tool}: {failure}")
    lines = log.read_text(errors="replace").splitlines()
    report = [line.strip("= ") for line in lines if line.startswith("=========") and "COMPUTE-SANITIZER" not in line]
    if ended.killed:
        raise RuntimeError(f"not over after {ended.seconds:.0f} s, {passed} of {checks} checks passed")
    if ended.code == FOUND or any("ERROR SUMMARY" in line and "ERROR SUMMARY: 0" not in line for line in report):
        raise RuntimeError(f"found something: {one_line(' '.join(report[:3])) or 'see its log'}")
    if (ended.code and not content["failures"]) or not passed:
        raise RuntimeError(f"ended with {ended.code} after {passed} checks: {report[-1] if report else 'see its log'}")


if __name__ == "__main__":
    sys.exit(stage(main))
