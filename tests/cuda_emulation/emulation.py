"""Builds the CUDA kernels of csrc for a CPU, over the cuda_runtime.h of this folder, and lets the ops run them.

They are the kernels' own sources: only launches and dynamic shared memory, which C++ has no syntax for, are rewritten.
"""

import contextlib
import importlib.util
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import pybind11
import pytest
import torch

from fastvid import _native
from fastvid.ops.foveated_glimpse import op as glimpse_op
from fastvid.ops.multiblock_mask import op as mask_op

NEEDS_BUILDING = pytest.mark.skipif(
    shutil.which("g++") is None or _native.CORE is None, reason="no g++ to build the kernels with, or no native core"
)
HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
SANITIZERS = {
    "": [],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-fsanitize=thread"],
}
# Products and sums are contracted, as nvcc does.
_FLAGS = [
    "-std=gnu++17",
    "-O1",
    "-g1",  # lines, for the sanitizers' reports
    "-fPIC",
    "-pthread",
    "-march=native",
    "-ffp-contract=fast",
    "-fvisibility=hidden",
]
_LAUNCH = re.compile(r"(\w+(?:<\w+>)?)<<<(.+?)>>>\((\w+)\);", re.DOTALL)
_DYNAMIC = re.compile(r"extern __shared__ (\w+) (\w+)\[\];")

Edit = tuple[str, str]  # a piece of a source and what replaces it
# A quarter of the threads takes a quarter of the time, and is two warps.
FEWER_THREADS = {"multiblock_mask_cuda.cu": [("constexpr int kThreads = 256;", "constexpr int kThreads = 64;")]}


def translate(source: str, edits: Sequence[Edit] = ()) -> str:
    """A .cu file as C++, after the edits."""
    for old, new in edits:
        assert source.count(old) == 1, f"not once in the source: {old}"
        source = source.replace(old, new)
    source = _LAUNCH.sub(r"emulated::launch(\1, \2, \3);", source)
    source = _DYNAMIC.sub(r"\1* \2 = emulated::dynamic_shared<\1>();", source)
    assert "<<<" not in source
    assert "extern __shared__" not in source
    return source


def build(folder: Path, sanitizer: str, edits: Mapping[str, Sequence[Edit]]) -> Path:
    """Compiles the kernels with a sanitizer (a key of SANITIZERS) into a module; ``edits`` by name of the .cu file.

    A second build in a folder keeps what no edit changes.
    """
    jobs = [] if (folder / "module.o").exists() else [(HERE / "module.cpp", ["-O0"])]  # the slow one
    for kernel in sorted(CSRC.glob("*.cu")):
        translated, source = folder / f"{kernel.stem}.cpp", translate(kernel.read_text(), edits.get(kernel.name, ()))
        if not translated.exists() or translated.read_text() != source:
            translated.write_text(source)
            jobs.append((translated, SANITIZERS[sanitizer]))
    include = [f"-I{path}" for path in (HERE, CSRC, pybind11.get_include(), sysconfig.get_path("include"))]
    for source, flags in jobs:
        target = folder / f"{source.stem}.o"
        subprocess.run(["g++", *_FLAGS, *include, *flags, "-c", "-o", target, source], check=True)
    module, objects = folder / "emulated.so", sorted(folder.glob("*.o"))
    subprocess.run(["g++", "-shared", "-pthread", *SANITIZERS[sanitizer], "-o", module, *objects], check=True)
    return module


def preload(sanitizer: str) -> str:
    """LD_PRELOAD for a sanitizer: its library comes before Python, and finds the C++ library whose throw it watches."""
    names = {"address": "libasan.so", "thread": "libtsan.so"}[sanitizer], "libstdc++.so.6"
    asked = (["g++", f"-print-file-name={name}"] for name in names)
    return " ".join(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip() for ask in asked)


def load(module: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("emulated", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class EmulatedGlimpse(torch.autograd.Function):
    """The operator's CUDA implementation with the operator's derivative."""

    forward = staticmethod(glimpse_op._cuda)
    setup_context = staticmethod(glimpse_op._setup_context)
    backward = staticmethod(glimpse_op._backward)


@contextlib.contextmanager
def emulated_cuda(module: ModuleType) -> Iterator[None]:
    """Within it, ``backend="native"`` of the ops with CUDA kernels runs what it runs on a GPU, on CPU tensors."""
    core = SimpleNamespace(**{**vars(_native.CORE), **vars(module)})  # the CUDA functions are the emulated ones
    stream = SimpleNamespace(cuda_stream=0)
    with (
        mock.patch.object(_native, "CORE", core),
        mock.patch.object(torch.cuda, "current_stream", return_value=stream),
        mock.patch.object(mask_op, "_op", mask_op._cuda),
        mock.patch.object(glimpse_op, "_op", EmulatedGlimpse.apply),
        mock.patch.object(glimpse_op, "_gaze_grad", glimpse_op._gaze_cuda),
    ):
        yield
