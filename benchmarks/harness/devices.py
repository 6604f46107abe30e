"""Names, datasheet figures and versions of the devices that benchmarks run on."""

import math
import os
import platform
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from datetime import date

import torch

# Classes of the thresholds, and GB/s of memory bandwidth as the vendor states it. The name is torch's; a word boundary
# keeps GH200 from passing for an H200, and laptop chips share a name with cards of twice their bandwidth.
_CARDS = [
    (r"RTX 4090(?! Laptop)\b", "rtx4090", 1008),
    (r"RTX 5090(?! Laptop)\b", "rtx5090", 1792),
    (r"\bH200\b", "h200", 4800),
    (r"\bH100 PCIe\b", "h100", 2000),
    (r"\bH100 NVL\b", "h100", 3900),
    (r"\bH100\b", "h100", 3350),
]
CLASSES = ("cpu", "rtx4090", "rtx5090", "h200", "h100", "gpu")
# Cards whose times are predicted where none was measured: class -> name and GB/s.
PREDICTED = {"rtx4090": ("RTX 4090", 1008), "rtx5090": ("RTX 5090", 1792), "h200": ("H200", 4800)}


@dataclass(frozen=True)
class Device:
    """``kind`` is torch's "cpu" or "cuda", ``cls`` the class of the thresholds, ``l2_bytes`` 0 on a CPU."""

    kind: str
    name: str
    cls: str
    datasheet_gb_per_s: float | None = None
    l2_bytes: int = 0

    @property
    def slug(self) -> str:
        return slug(self.name)

    def batch_over_l2(self, bytes_per_clip: int, times: int = 8) -> int:
        """Return the smallest multiple of 8 clips that moves ``times`` the L2 cache."""
        return max(8, 8 * math.ceil(times * self.l2_bytes / bytes_per_clip / 8))


def slug(name: str) -> str:
    """Convert a device's name to a file name: ``NVIDIA GeForce RTX 4090`` to ``nvidia-geforce-rtx-4090``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def gpu_class(name: str) -> tuple[str, float | None]:
    """Return the class and datasheet GB/s of a GPU's name, or ("gpu", None) for one that is not listed."""
    for pattern, cls, bandwidth in _CARDS:
        if re.search(pattern, name):
            return cls, bandwidth
    return "gpu", None


def find(kind: str) -> Device:
    """Return the current device of a kind, "cpu" or "cuda"."""
    if kind == "cpu":
        threads = torch.get_num_threads()
        return Device("cpu", f"{_cpu_name()}, {threads} thread{'s' * (threads > 1)}", "cpu")
    name = torch.cuda.get_device_name()
    cls, bandwidth = gpu_class(name)
    return Device("cuda", name, cls, bandwidth, torch.cuda.get_device_properties().L2_cache_size)


def describe(device: Device) -> dict:
    """Describe the device and the software on it, for a result file."""
    return {
        **asdict(device),
        "slug": device.slug,
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "triton": _triton_version(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda if device.kind == "cuda" else None,
        "driver": _driver() if device.kind == "cuda" else None,
        "threads": torch.get_num_threads(),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _triton_version() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return triton.__version__


def _driver() -> str | None:
    if not shutil.which("nvidia-smi"):
        return None
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return answer[0] if answer else None
