"""Compiles what an op would launch on a GPU, without one: the launch is caught, and built for each architecture.

The ops' launch functions run on meta tensors of the sizes users have, so what is compiled here is what runs there: the
same block sizes, constants and divisibilities.
"""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from tests.ahead_of_time.resources import Usage

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
ARCHS = (80, 89, 90, 100, 120)

_TYPES = {
    torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.int64: "i64", torch.int32: "i32",
    torch.int16: "i16", torch.int8: "i8", torch.uint8: "u8",
}  # fmt: skip
_OPTIONS = ("num_warps", "num_stages", "maxnreg")


@dataclass(frozen=True)
class Launch:
    """One kernel launch that was caught."""

    kernel: JITFunction
    arguments: dict[str, Any]
    options: dict[str, int]

    @property
    def name(self) -> str:
        return self.kernel.__name__

    def compile(self, arch: int):
        """The compiled kernel, as Triton's launcher would have it made for these arguments."""
        signature, constants, attributes = {}, {}, {}
        for position, parameter in enumerate(self.kernel.params):
            value = self.arguments[parameter.name]
            specialize = not parameter.do_not_specialize
            if isinstance(value, torch.Tensor):
                signature[parameter.name] = "*" + _TYPES[value.dtype]
                divisible = value.storage_offset() * value.element_size() % 16 == 0  # an allocation itself is aligned
            elif parameter.is_constexpr or (isinstance(value, int) and value == 1 and specialize):
                signature[parameter.name], constants[parameter.name] = "constexpr", value
                continue
            elif isinstance(value, int):
                signature[parameter.name] = parameter.annotation_type or ("i32" if -(2**31) <= value < 2**31 else "i64")
                divisible = specialize and value % 16 == 0
            else:
                assert isinstance(value, float)
                assert parameter.annotation_type == "fp32", f"{self.name}: {parameter.name} is not pinned to float32"
                signature[parameter.name], divisible = "fp32", False
            if divisible:
                attributes[(position,)] = [["tt.divisibility", 16]]
        source = ASTSource(self.kernel, signature, constants, attributes)
        return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=self.options)


@contextlib.contextmanager
def caught_launches() -> Iterator[list[Launch]]:
    """Collects the kernel launches of the block instead of running them."""
    launches: list[Launch] = []

    def catch(kernel, *args, grid, warmup, **kwargs):
        options = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
        arguments = {**dict(zip(kernel.arg_names, args, strict=False)), **kwargs}
        assert arguments.keys() == set(kernel.arg_names), f"{kernel.__name__}: arguments do not match"
        assert 0 < grid[0] < 2**31
        launches.append(Launch(kernel, arguments, options))

    with mock.patch.object(JITFunction, "run", catch):
        yield launches


def triton_compiler(compiled) -> str:
    """What decides how a kernel is compiled: the versions of triton and of its two ptxas, and its floating point."""
    ptxas = {triton.knobs.nvidia.ptxas.version, triton.knobs.nvidia.ptxas_blackwell.version}
    fusion = "" if compiled.metadata.enable_fp_fusion else ", no fp fusion"
    return f"triton {triton.__version__}, ptxas {' and '.join(sorted(ptxas))}{fusion}"


def resource_usage(binary: Path) -> dict[tuple[str, str], Usage]:
    """(kernel, sm) -> what every kernel in a cubin or shared library takes."""
    usage, arch = {}, ""
    for line in cuobjdump("-res-usage", binary).splitlines():
        if found := re.match(r"arch = (sm_\d+)", line):
            arch = found[1]
        elif found := re.match(r"\s*Function (\S+):", line):
            kernel = found[1]
        elif found := re.match(r"\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line):
            registers, stack, shared, local = map(int, found.groups())
            usage[kernel, arch] = Usage(registers, shared, stack + local)
    return usage


def cuobjdump(option: str, binary: Path) -> str:
    """What triton's cuobjdump prints."""
    return subprocess.run([CUOBJDUMP, option, binary], capture_output=True, text=True, check=True).stdout


def cuobjdump_version() -> tuple[int, ...]:
    """(major, minor) of the CUDA toolkit that cuobjdump is of: it may not know what a later nvcc writes."""
    said = subprocess.run([CUOBJDUMP, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.search(r"release (\d+)\.(\d+)", said).groups()))
