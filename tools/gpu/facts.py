"""Stage "facts": what the machine is, and the two rates that bound everything else."""

import os
import platform
import shutil
import subprocess
import sys
import time

import torch

from benchmarks.harness import devices
from benchmarks.harness.gemm import gemm_rate
from benchmarks.harness.gpu_timing import GpuTimer
from benchmarks.harness.timing import CpuTimer
from tools.gpu.record import Task, stage


def main(task: Task) -> None:
    """Record the device, the programs that build and check, copy bandwidth and GEMM rate."""
    record, kind = task.record, task.scale.device.kind
    record.value("machine", f"{platform.node()}, {os.cpu_count()} cores, {platform.platform()}")
    record.value("torch", f"{torch.__version__}, CUDA {torch.version.cuda}, from {torch.__file__}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("torch sees no CUDA device: give --rehearse to go through the stages on a CPU")
    device = devices.find(kind)
    facts = devices.describe(device)
    record.value("device", facts)
    record.value("programs", {name: output_of(command) for name, command in PROGRAMS.items()})
    with record.part("copy"):
        copy = (GpuTimer if kind == "cuda" else CpuTimer)({}).copy_bandwidth() / 1e9
        facts["copy_gb_per_s"] = copy
        record.value("device", facts)
        print(f"copy: {copy:.1f} GB/s")
    with record.part("GEMM"):
        began = time.perf_counter()
        rate = gemm_rate(torch.device(kind)) / 1e12
        record.value("gemm_tflop_per_s", rate)
        print(f"GEMM: {rate:.3f} TFLOP/s, measured in {time.perf_counter() - began:.1f} s")


PROGRAMS = {
    "python": (sys.executable, "--version"),
    "nvcc": ("nvcc", "--version"),
    "cmake": ("cmake", "--version"),
    "ninja": ("ninja", "--version"),
    "compute-sanitizer": ("compute-sanitizer", "--version"),
    "nvidia-smi": ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"),
}


def output_of(command: tuple[str, ...]) -> str:
    """Return the last line of what a program prints, or why there is none."""
    if shutil.which(command[0]) is None:
        return "not on the PATH"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except subprocess.TimeoutExpired:
        return "did not answer in 10 s"
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}, and no output"


if __name__ == "__main__":
    sys.exit(stage(main))
